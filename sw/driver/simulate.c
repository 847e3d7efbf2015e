/* Runs a program on the simulated chip by the driver: what firmware does, without Python.

       simulate SIMULATOR.so IMAGE COMMAND...

   SIMULATOR.so is a library of `loopnest_sim`. The commands, in order: `in NAME FILE` sets an input
   from the bytes of its elements, `run polling` and `run interrupt` start and wait, `out NAME FILE`
   writes a result's, `counters` prints the cycles and multiplies of the kernels, `tensors` the
   inputs and results. Exit code 1: an error, which is printed. */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loopnest.h"
#include "loopnest_driver.h"

enum { ADDRESS = 0x40000, LATENCY = 100, IDLE_CYCLES = 200, LIMIT = 10000, POLLS = 100000000 };

/* As harness.cpp: what it is told of its memory, and its state. */
struct settings {
    uint64_t latency, reorder, seed, fill;
    uint64_t error_first, error_end, window_first, window_end;
    uint64_t waves_first, waves_last;
    double bytes_per_cycle, stall;
};
struct state {
    uint64_t words[15]; /* the second one is the interrupt */
};

struct chip {
    void *simulation;
    uint8_t *memory;
    struct loopnest_program *program;
    void (*write)(void *, uint64_t, const uint8_t *, uint64_t);
    void (*read)(void *, uint64_t, uint8_t *, uint64_t);
    int (*write_register)(void *, uint32_t, uint32_t, uint64_t);
    int (*read_register)(void *, uint32_t, uint32_t *, uint64_t);
    void (*run)(void *, uint64_t);
    void (*state)(void *, struct state *);
};

static void fail(const char *what, const char *why) {
    fprintf(stderr, "error: %s: %s\n", what, why);
    exit(1);
}

static void *symbol(void *library, const char *name) {
    void *found = dlsym(library, name);
    if (!found) fail(name, "the simulator has no such function");
    return found;
}

static uint32_t read_register(void *context, uint32_t offset) {
    struct chip *chip = context;
    uint32_t value = 0;
    if (chip->read_register(chip->simulation, offset, &value, LIMIT)) fail("read", "no answer");
    return value;
}

static void write_register(void *context, uint32_t offset, uint32_t value) {
    struct chip *chip = context;
    if (chip->write_register(chip->simulation, offset, value, LIMIT)) fail("write", "no answer");
}

/* The simulated memory is not the processor's: what a cache would need is a copy here. */

static void clean(void *context, uint32_t first, uint32_t bytes) {
    struct chip *chip = context;
    chip->write(chip->simulation, ADDRESS + (uint64_t)first, chip->memory + first, bytes);
}

static void invalidate(void *context, uint32_t first, uint32_t bytes) {
    struct chip *chip = context;
    chip->read(chip->simulation, ADDRESS + (uint64_t)first, chip->memory + first, bytes);
}

/* Time passes; an interrupt is handled. */
static void idle(void *context) {
    struct chip *chip = context;
    struct state state;
    chip->run(chip->simulation, IDLE_CYCLES);
    chip->state(chip->simulation, &state);
    if (state.words[1]) loopnest_interrupt(chip->program);
}

static uint8_t *file(const char *path, size_t *bytes) {
    FILE *in = fopen(path, "rb");
    if (!in) fail(path, "cannot be read");
    if (fseek(in, 0, SEEK_END)) fail(path, "cannot be read");
    *bytes = (size_t)ftell(in);
    rewind(in);
    uint8_t *data = malloc(*bytes + 1);
    if (!data || fread(data, 1, *bytes, in) != *bytes) fail(path, "cannot be read");
    fclose(in);
    return data;
}

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

int main(int count, char **words) {
    if (count < 3) fail("simulate", "expected SIMULATOR.so IMAGE COMMAND...");
    void *library = dlopen(words[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) fail(words[1], dlerror());
    struct chip chip;
    void *(*make)(const struct settings *, const char *);
    /* ISO C has no conversion from a pointer to data to one to a function; POSIX does it this way */
    *(void **)&make = symbol(library, "loopnest_new");
    *(void **)&chip.write = symbol(library, "loopnest_write");
    *(void **)&chip.read = symbol(library, "loopnest_read");
    *(void **)&chip.write_register = symbol(library, "loopnest_write_register");
    *(void **)&chip.read_register = symbol(library, "loopnest_read_register");
    *(void **)&chip.run = symbol(library, "loopnest_run");
    *(void **)&chip.state = symbol(library, "loopnest_state");

    size_t bytes;
    uint8_t *image = file(words[2], &bytes);
    const uint32_t need = loopnest_memory_bytes(image, bytes);
    const struct settings settings = {
        .latency = LATENCY, .seed = 1, .fill = 0xa5, .window_first = ADDRESS,
        .window_end = ADDRESS + (uint64_t)need, .bytes_per_cycle = 32};
    chip.simulation = make(&settings, "");
    chip.memory = malloc((size_t)need + 1);
    if (!chip.memory) fail("memory", "not enough");
    memset(chip.memory, 0x5a, need);

    struct loopnest_program program;
    struct loopnest_device device = {
        .read = read_register, .write = write_register, .context = &chip, .memory = chip.memory,
        .address = ADDRESS, .memory_bytes = need, .clean = clean, .invalidate = invalidate,
        .idle = idle};
    chip.program = &program;
    int status = loopnest_load(&device, &program, image, bytes);
    for (int n = 3; n < count && !status; ++n) {
        const char *command = words[n];
        if (!strcmp(command, "in") && n + 2 < count) {
            uint8_t *data = file(words[n + 2], &bytes);
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
            for (uint32_t kernel = 0; kernel < program.kernels; ++kernel)
                printf("%u cycles %llu multiplies %llu\n", (unsigned)kernel,
                       (unsigned long long)loopnest_counter(&program, kernel,
                                                            LOOPNEST_COUNTER_CYCLES),
                       (unsigned long long)loopnest_counter(&program, kernel,
                                                            LOOPNEST_COUNTER_MULTIPLIES));
        } else if (!strcmp(command, "tensors")) {
            show(&program);
        } else {
            fail(command, "expected in, run, out, counters or tensors");
        }
    }
    if (status) fail("loopnest", loopnest_error(&program, status));
    struct state state;
    chip.state(chip.simulation, &state);
    if (state.words[5]) fail("memory", "the chip has left the program's memory");
    free(chip.memory);
    free(image);
    return 0;
}
