/* Loopnest: programs with steps of the host, in firmware. C99, no dependencies but the driver, no
   allocation.

       struct loopnest_model model = {.steps = net_steps, .step_count = ..., .images = images,
                                      .value = value, .scratch = scratch, .scratch_bytes = ...};
       const struct loopnest_step *step;
       do {
           status = loopnest_resume(&model, 1000000, &step);
           if (!status && step) compute(step);
       } while (!status && step);
*/
#ifndef LOOPNEST_STEPS_H
#define LOOPNEST_STEPS_H

#include "loopnest_driver.h"

#ifdef __cplusplus
extern "C" {
#endif

struct loopnest_model {
    const struct loopnest_step *steps; /* the table that `Program.export` has written */
    uint32_t step_count;

    /* The images, by number, loaded. Each has memory of its own: a `struct loopnest_device` with the
       same registers and another memory. */
    struct loopnest_program *images;

    /* Where firmware keeps a tensor between the steps: its elements in row-major order. 0 for one
       that it does not keep: an input then holds what the program was compiled for, or was set by
       `loopnest_set_input`, and a result is not read. int32 elements are rounded beyond 2^24. */
    float *(*value)(void *context, const char *name, uint32_t elements);
    void *context;

    void *scratch; /* for the elements of any one of these tensors, in the chip's format */
    uint32_t scratch_bytes;

    uint32_t next; /* the step to do; 0 begins a run */
    int running;   /* whether the chip is at it */
};

/* Do the steps from the next one on, up to one of the host: `*step` is that one, which firmware then
   computes, of the values of its inputs to that of its result; the next call goes on behind it. 0: all
   steps are done, and the next call begins another run. After LOOPNEST_TIMEOUT the next call goes on
   waiting. */
int loopnest_resume(struct loopnest_model *model, uint32_t polls,
                    const struct loopnest_step **step);

#ifdef __cplusplus
}
#endif

#endif
