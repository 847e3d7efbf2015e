/* Runs a program on the simulated chip by the driver: what firmware does, without Python.

       simulate SIMULATOR.so IMAGE COMMAND...

   SIMULATOR.so is a library of `loopnest_sim`. The commands, in order: `in NAME FILE` sets an input
   from the bytes of its elements, `run polling` and `run interrupt` start and wait, `out NAME FILE`
   writes a result's, `counters` prints the cycles and multiplies of the kernels, and of a chip of
   several PEs its cache's requests and each PE's part, `tensors` the inputs and results. Exit
   code 1: an error, which is printed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loopnest.h"
#include "loopnest_driver.h"
#include "simulated.h"

enum { POLLS = 100000000 };

static size_t tensor_bytes(const struct loopnest_program *program, const char *name, int result) {
    struct loopnest_tensor tensor;
    for (uint32_t n = 0; !loopnest_tensor(program, n, &tensor); ++n)
        if (tensor.result == result && !strcmp(tensor.name, name))
            return (size_t)tensor.elements * (tensor.type == LOOPNEST_INT8   ? 1u
                                              : tensor.type == LOOPNEST_BF16 ? 2u
                                                                             : 4u);
    fail(name, "no input or result has this name");
    return 0;
}

static void show(const struct loopnest_program *program) {
    static const char *const types[] = {"int8", "bf16", "int32", "fp32"};
    struct loopnest_tensor tensor;
    for (uint32_t n = 0; !loopnest_tensor(program, n, &tensor); ++n) {
        printf("%s %s %s", tensor.result ? "result" : "input", tensor.name, types[tensor.type]);
        for (uint32_t m = 0; m < tensor.order; ++m) printf(" %u", (unsigned)tensor.shape[m]);
        printf("\n");
    }
}

/* Print counters at the end of a kernel. */
static void counted(const struct loopnest_program *program, uint32_t kernel) {
    printf("%u cycles %llu multiplies %llu\n", (unsigned)kernel,
           (unsigned long long)loopnest_counter(program, kernel, LOOPNEST_COUNTER_CYCLES),
           (unsigned long long)loopnest_counter(program, kernel, LOOPNEST_COUNTER_MULTIPLIES));
#if LOOPNEST_PES > 1
    printf("%u cache requests %llu misses %llu\n", (unsigned)kernel,
           (unsigned long long)loopnest_counter(program, kernel, LOOPNEST_COUNTER_CACHE_REQUESTS),
           (unsigned long long)loopnest_counter(program, kernel, LOOPNEST_COUNTER_CACHE_MISSES));
    for (uint32_t pe = 0; pe < LOOPNEST_PES; ++pe)
        printf("%u PE %u busy %llu last step %llu\n", (unsigned)kernel, (unsigned)pe,
               (unsigned long long)loopnest_counter(program, kernel,
                                                    LOOPNEST_COUNTER_PE_LEAF_BUSY(pe)),
               (unsigned long long)loopnest_counter(program, kernel,
                                                    LOOPNEST_COUNTER_PE_LAST_STEP(pe)));
#endif
}

int main(int count, char **words) {
    if (count < 3) fail("simulate", "expected SIMULATOR.so IMAGE COMMAND...");
    size_t bytes;
    uint8_t *image = read_file(words[2], &bytes);
    const uint32_t need = loopnest_memory_bytes(image, bytes);
    struct simulated chip;
    simulated_open(&chip, words[1], need);
    struct loopnest_program program;
    struct loopnest_device device = simulated_device(&chip, need);
    chip.program = &program;
    int status = loopnest_load(&device, &program, image, bytes);
    for (int n = 3; n < count && !status; ++n) {
        const char *command = words[n];
        if (!strcmp(command, "in") && n + 2 < count) {
            uint8_t *data = read_file(words[n + 2], &bytes);
            if (bytes != tensor_bytes(&program, words[n + 1], 0))
                fail(words[n + 2], "its size is not that of the input");
            status = loopnest_set_input(&program, words[n + 1], data);
            free(data);
            n += 2;
        } else if (!strcmp(command, "run") && n + 1 < count) {
            const int interrupt = !strcmp(words[++n], "interrupt");
            status = loopnest_start(&program, interrupt);
            if (!status) status = loopnest_wait(&program, POLLS);
        } else if (!strcmp(command, "out") && n + 2 < count) {
            const size_t size = tensor_bytes(&program, words[n + 1], 1);
            uint8_t *data = malloc(size + 1);
            if (!data) fail("memory", "not enough");
            status = loopnest_get_result(&program, words[n + 1], data);
            FILE *out = fopen(words[n + 2], "wb");
            if (!out || fwrite(data, 1, size, out) != size || fclose(out))
                fail(words[n + 2], "cannot be written");
            free(data);
            n += 2;
        } else if (!strcmp(command, "counters")) {
            for (uint32_t kernel = 0; kernel < program.kernels; ++kernel) counted(&program, kernel);
        } else if (!strcmp(command, "tensors")) {
            show(&program);
        } else {
            fail(command, "expected in, run, out, counters or tensors");
        }
    }
    if (status) fail("loopnest", loopnest_error(&program, status));
    simulated_close(&chip);
    free(image);
    return 0;
}
