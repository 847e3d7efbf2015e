/* A simulated chip as firmware sees it: registers, a memory, an interrupt. */
#ifndef LOOPNEST_SIMULATED_H
#define LOOPNEST_SIMULATED_H

#include <stddef.h>
#include <stdint.h>

#include "loopnest_driver.h"

/* A chip with a memory; several images may have parts of it. */
struct simulated {
    void *simulation;
    uint8_t *memory;
    uint32_t first; /* byte of the memory at which the device begins */
    struct loopnest_program *program; /* of which `idle` handles the interrupt */
    void (*write)(void *, uint64_t, const uint8_t *, uint64_t);
    void (*read)(void *, uint64_t, uint8_t *, uint64_t);
    int (*write_register)(void *, uint32_t, uint32_t, uint64_t);
    int (*read_register)(void *, uint32_t, uint32_t *, uint64_t);
    void (*run)(void *, uint64_t);
    void (*state)(void *, void *);
};

/* Print an error and end. */
void fail(const char *what, const char *why);

/* Return a file's contents, to be freed. */
uint8_t *read_file(const char *path, size_t *bytes);

/* Open a library of `loopnest_sim` with a memory of this size. */
void simulated_open(struct simulated *chip, const char *library, uint32_t bytes);

/* Return the device that has the bytes of the chip's memory from `chip->first` on. */
struct loopnest_device simulated_device(struct simulated *chip, uint32_t bytes);

/* Free it; an error if the chip has left the memory. */
void simulated_close(struct simulated *chip);

#endif
