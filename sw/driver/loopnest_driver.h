/* Loopnest: a driver for programs that `Program.export` has written. C99, no dependencies, no
   allocation. One thread at a time may use a device.

       struct loopnest_device device = {.read = ..., .write = ..., .memory = ...};
       struct loopnest_program program;
       int status = loopnest_load(&device, &program, image, sizeof image);
       if (!status) status = loopnest_set_input(&program, "x", x);
       if (!status) status = loopnest_start(&program, 0);
       if (!status) status = loopnest_wait(&program, 1000000);
       if (!status) status = loopnest_get_result(&program, "y", y);
       if (status) puts(loopnest_error(&program, status));
*/
#ifndef LOOPNEST_DRIVER_H
#define LOOPNEST_DRIVER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the functions return. */
enum loopnest_status {
    LOOPNEST_OK = 0,
    LOOPNEST_NO_IMAGE,    /* the bytes are no image of a program */
    LOOPNEST_VERSION,     /* an image of another version of the format */
    LOOPNEST_DAMAGED,     /* an image that is truncated or damaged */
    LOOPNEST_NO_CHIP,     /* the identity register does not show a Loopnest chip */
    LOOPNEST_OTHER_CHIP,  /* an image for a chip of another configuration */
    LOOPNEST_MEMORY,      /* the memory is too small, or its address no multiple of 32 */
    LOOPNEST_NO_TENSOR,   /* no input or result has this name */
    LOOPNEST_FULL,        /* an input has more entries than are reserved */
    LOOPNEST_BUSY,        /* the chip is running */
    LOOPNEST_TIMEOUT,     /* the run has not ended yet */
    LOOPNEST_FAILED       /* the chip has ended the run with an error */
};

/* The chip, as software reaches it. */
struct loopnest_device {
    uint32_t (*read)(void *context, uint32_t offset);              /* a register */
    void (*write)(void *context, uint32_t offset, uint32_t value); /* a register */
    void *context;                                                 /* given to these functions */

    void *memory;          /* memory for a program, as software sees it */
    uint32_t address;      /* its byte address on the chip's port, a multiple of 32 */
    uint32_t memory_bytes; /* its size */

    /* Optional, for caches that are not coherent with the chip's port: software has written these
       bytes of the memory, or is about to read them. */
    void (*clean)(void *context, uint32_t first, uint32_t bytes);
    void (*invalidate)(void *context, uint32_t first, uint32_t bytes);

    /* Optional: called while `loopnest_wait` waits, to sleep until an interrupt; it has to return at
       one that is pending already. */
    void (*idle)(void *context);
};

/* A program in the memory of a device. Its image has to stay where it is. */
struct loopnest_program {
    struct loopnest_device *device;
    const uint8_t *image;
    uint32_t kernels;     /* the number of kernels */
    uint32_t bytes;       /* of memory that it takes */
    uint64_t cycles;      /* that it is expected to run, the upper 32 bits for very long ones */
    int interrupts;       /* whether a handler tells the end of the run */
    volatile int done;    /* set when a run has ended */
    uint32_t error;       /* enum loopnest_error of that run */
    uint32_t error_where; /* its place */
};

/* Types of values. */
enum loopnest_type { LOOPNEST_INT8, LOOPNEST_BF16, LOOPNEST_INT32, LOOPNEST_FP32 };

enum { LOOPNEST_MAX_ORDER = 4 };

/* An input or a result. */
struct loopnest_tensor {
    const char *name;
    int result; /* 0: an input */
    enum loopnest_type type;
    uint32_t order;
    uint32_t shape[LOOPNEST_MAX_ORDER];
    uint32_t elements; /* the product of the shape */
};

/* A program with steps of the host has an image for each start of the chip, and a header in which
   `Program.export` lists all steps: a table `NAME_steps` of this type. Firmware goes through it by
   `loopnest_resume` (loopnest_steps.h): it computes what the steps of the host say. */

enum { LOOPNEST_HOST_ORDER = 8 };

/* A tensor of the host: its elements in row-major order. */
struct loopnest_host_tensor {
    const char *name;      /* as in the images, if a kernel reads or writes it */
    const float *elements; /* of a constant; otherwise 0 */
    uint32_t order;
    uint32_t shape[LOOPNEST_HOST_ORDER];
};

struct loopnest_step {
    uint32_t image;         /* the image to run, from 1 on; 0: a step of the host */
    const char *operation;  /* of the host: an operator of docs/models.md, or in words */
    const char *attributes; /* its arguments, as JSON */
    const struct loopnest_host_tensor *inputs;
    uint32_t input_count;
    struct loopnest_host_tensor result;
};

/* The bytes of memory that an image takes, by its header; 0 if it has none. */
uint32_t loopnest_memory_bytes(const void *image, size_t bytes);

/* Check an image and the chip, and copy the image to the memory. */
int loopnest_load(struct loopnest_device *device, struct loopnest_program *program,
                  const void *image, size_t bytes);

/* Get the n-th tensor; LOOPNEST_NO_TENSOR behind the last one. An input that the kernels read in
   several forms is there once for each. */
int loopnest_tensor(const struct loopnest_program *program, uint32_t n,
                    struct loopnest_tensor *tensor);

/* Write an input, given its elements in row-major order, of the tensor's type (BF16 as uint16_t).
   Until then it is the tensor that the program was compiled for, if it was an input then. */
int loopnest_set_input(struct loopnest_program *program, const char *name, const void *elements);

/* Read a result of the last run, all elements in row-major order. */
int loopnest_get_result(const struct loopnest_program *program, const char *name, void *elements);

/* Start the kernels; `interrupt`: the chip interrupts when they are done. */
int loopnest_start(struct loopnest_program *program, int interrupt);

/* Look whether the run has ended, and if so, acknowledge that: the interrupt falls. For interrupt
   handlers; returns whether it has ended. */
int loopnest_interrupt(struct loopnest_program *program);

/* Wait for the end of the run: read the status up to `polls` times. After a start with `interrupt`
   only the handler reads it, and this waits until it has seen the end. */
int loopnest_wait(struct loopnest_program *program, uint32_t polls);

/* End a run by a soft reset; waits as `loopnest_wait`. */
int loopnest_stop(struct loopnest_program *program, uint32_t polls);

/* A counter (LOOPNEST_COUNTER_... of loopnest.h) at the end of a kernel of the last run, since its
   start. */
uint64_t loopnest_counter(const struct loopnest_program *program, uint32_t kernel,
                          uint32_t counter);

/* A status in words; of LOOPNEST_FAILED, the chip's error. */
const char *loopnest_error(const struct loopnest_program *program, int status);

/* A number as bfloat16, rounded to nearest even. */
uint16_t loopnest_bf16(float number);

#ifdef __cplusplus
}
#endif

#endif
