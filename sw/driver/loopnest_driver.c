#include "loopnest_driver.h"

#include <string.h>

#include "loopnest.h" /* of the chip: `make verilog` */

/* An image: little-endian words of 32 bits (sw/loopnest/program/firmware.py writes them). */
enum {
    MAGIC = 0x49504e4c, /* "LNPI" */
    VERSION = 2,
    HEADER_WORDS = 32,
    SEGMENT_WORDS = 3,
    TENSOR_WORDS = 48,
    LINE = 32,
    LANES = 16,
    PACKED_STRIDE = 2,
    OPEN_STRIDE = 4
};

enum header {
    H_MAGIC, H_VERSION, H_BYTES, H_CRC, H_CONFIGURATION, H_LINES, H_MEMORY, H_START, H_CYCLES,
    H_CYCLES_HIGH, H_KERNELS, H_COUNTERS, H_SEGMENTS, H_SEGMENT_TABLE, H_RELOCATIONS,
    H_RELOCATION_TABLE, H_TENSORS, H_TENSOR_TABLE, H_STRINGS, H_STRING_BYTES
};

enum tensor {
    T_NAME, T_FLAGS, T_TYPE, T_ORDER, T_SHAPE, T_KIND = T_SHAPE + LOOPNEST_MAX_ORDER,
    T_MODE = T_KIND + LOOPNEST_MAX_ORDER, T_STEP = T_MODE + LOOPNEST_MAX_ORDER,
    T_UPPER = T_STEP + LOOPNEST_MAX_ORDER, T_KEYS = T_UPPER + LOOPNEST_MAX_ORDER, T_FIBERS,
    T_ABSENT, T_LEVELS, T_VALUES = T_LEVELS + 4 * LOOPNEST_MAX_ORDER, T_VALUE_BYTES
};

enum flag { RESULT = 1, COMPRESSED = 2, MASK = 4 };

enum control { START = 1, SOFT_RESET = 2, INTERRUPT_ENABLE = 4 };
enum state { BUSY = 1, DONE = 2, LATE = 8 };

static const uint32_t type_bytes[] = {1, 2, 4, 4};

static uint32_t get32(const volatile uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void put32(uint8_t *at, uint32_t word) {
    at[0] = (uint8_t)word;
    at[1] = (uint8_t)(word >> 8);
    at[2] = (uint8_t)(word >> 16);
    at[3] = (uint8_t)(word >> 24);
}

/* Words of an image, and bytes of the memory. */

static uint32_t header(const uint8_t *image, enum header word) {
    return get32(image + 4u * (uint32_t)word);
}

static const uint8_t *record(const struct loopnest_program *p, uint32_t n) {
    return p->image + header(p->image, H_TENSOR_TABLE) + 4u * TENSOR_WORDS * n;
}

static uint32_t field(const uint8_t *record, uint32_t word) { return get32(record + 4u * word); }

static uint8_t *memory(const struct loopnest_program *p, uint32_t offset) {
    return (uint8_t *)p->device->memory + offset;
}

static void clean(const struct loopnest_program *p, uint32_t first, uint32_t bytes) {
    if (bytes && p->device->clean) p->device->clean(p->device->context, first, bytes);
}

static void invalidate(const struct loopnest_program *p, uint32_t first, uint32_t bytes) {
    if (bytes && p->device->invalidate) p->device->invalidate(p->device->context, first, bytes);
}

/* As zlib's, four bits at a time. */
static uint32_t crc32(const uint8_t *data, size_t bytes) {
    uint32_t of_bits[16], crc = 0xffffffffu;
    for (uint32_t n = 0; n < 16; ++n) {
        of_bits[n] = n;
        for (int bit = 0; bit < 4; ++bit)
            of_bits[n] = of_bits[n] >> 1 ^ (of_bits[n] & 1 ? 0xedb88320u : 0);
    }
    for (size_t i = 0; i < bytes; ++i) {
        crc ^= data[i];
        crc = crc >> 4 ^ of_bits[crc & 15];
        crc = crc >> 4 ^ of_bits[crc & 15];
    }
    return ~crc;
}

static int within(uint32_t first, uint32_t bytes, uint32_t limit) {
    return first <= limit && bytes <= limit - first;
}

/* Whether `count` records of `words` words are inside an image of `bytes`. */
static int table(const uint8_t *image, enum header count, enum header at, uint32_t words,
                 uint32_t bytes) {
    const uint32_t first = header(image, at);
    return first <= bytes && header(image, count) <= (bytes - first) / (4u * words);
}

static int check_header(const uint8_t *image, size_t bytes) {
    if (bytes < 4u * HEADER_WORDS || header(image, H_MAGIC) != MAGIC) return LOOPNEST_NO_IMAGE;
    return header(image, H_VERSION) == VERSION ? LOOPNEST_OK : LOOPNEST_VERSION;
}

/* Whether a tensor has a form that the driver knows, inside of the memory. */
static int check_tensor(const uint8_t *r, uint32_t need, uint32_t strings) {
    const uint32_t order = field(r, T_ORDER);
    if (field(r, T_NAME) >= strings || field(r, T_TYPE) > LOOPNEST_FP32 ||
        order > LOOPNEST_MAX_ORDER || !within(field(r, T_VALUES), field(r, T_VALUE_BYTES), need))
        return 0;
    for (uint32_t n = 0; n < 2 * LOOPNEST_MAX_ORDER; ++n)
        if (!within(field(r, T_LEVELS + 2 * n), field(r, T_LEVELS + 2 * n + 1), need)) return 0;
    for (uint32_t m = 0; m < order; ++m)
        if (field(r, T_MODE + m) >= order) return 0;
    return 1;
}

static int check(const uint8_t *image, size_t bytes) {
    const int status = check_header(image, bytes);
    if (status) return status;
    const uint32_t size = header(image, H_BYTES);
    if (size != bytes || crc32(image + 16, bytes - 16) != header(image, H_CRC))
        return LOOPNEST_DAMAGED;
    const uint32_t need = header(image, H_MEMORY);
    const uint32_t strings = header(image, H_STRINGS), length = header(image, H_STRING_BYTES);
    if (!table(image, H_SEGMENTS, H_SEGMENT_TABLE, SEGMENT_WORDS, size) ||
        !table(image, H_RELOCATIONS, H_RELOCATION_TABLE, 1, size) ||
        !table(image, H_KERNELS, H_COUNTERS, 1, size) ||
        !table(image, H_TENSORS, H_TENSOR_TABLE, TENSOR_WORDS, size) ||
        !within(strings, length, size) || !length || image[strings + length - 1])
        return LOOPNEST_DAMAGED;
    for (uint32_t n = 0; n < header(image, H_SEGMENTS); ++n) {
        const uint8_t *at = image + header(image, H_SEGMENT_TABLE) + 4u * SEGMENT_WORDS * n;
        if (!within(get32(at), get32(at + 8), need) || !within(get32(at + 4), get32(at + 8), size))
            return LOOPNEST_DAMAGED;
    }
    for (uint32_t n = 0; n < header(image, H_TENSORS); ++n) {
        const uint8_t *at = image + header(image, H_TENSOR_TABLE) + 4u * TENSOR_WORDS * n;
        if (!check_tensor(at, need, length)) return LOOPNEST_DAMAGED;
    }
    for (uint32_t n = 0; n < header(image, H_RELOCATIONS); ++n)
        if (!within(get32(image + header(image, H_RELOCATION_TABLE) + 4u * n), 4, need))
            return LOOPNEST_DAMAGED;
    return LOOPNEST_OK;
}

uint32_t loopnest_memory_bytes(const void *image, size_t bytes) {
    return check_header(image, bytes) ? 0 : header(image, H_MEMORY);
}

int loopnest_load(struct loopnest_device *device, struct loopnest_program *program,
                  const void *bytes_of_image, size_t bytes) {
    const uint8_t *image = bytes_of_image;
    memset(program, 0, sizeof *program);
    const int status = check(image, bytes);
    if (status) return status;
    if (device->read(device->context, LOOPNEST_REGISTER_IDENTITY) != LOOPNEST_IDENTITY)
        return LOOPNEST_NO_CHIP;
    const uint32_t configuration =
        device->read(device->context, LOOPNEST_REGISTER_CONFIGURATION);
    if (configuration != header(image, H_CONFIGURATION) ||
        configuration != LOOPNEST_CONFIGURATION ||
        header(image, H_LINES) != LOOPNEST_DESCRIPTOR_LINES)
        return LOOPNEST_OTHER_CHIP;
    if (device->read(device->context, LOOPNEST_REGISTER_STATUS) & (BUSY | LATE))
        return LOOPNEST_BUSY;
    program->bytes = header(image, H_MEMORY);
    if (device->memory_bytes < program->bytes || device->address % LINE ||
        device->address > 0xffffffffu - program->bytes)
        return LOOPNEST_MEMORY;
    program->device = device;
    program->image = image;
    program->kernels = header(image, H_KERNELS);
    program->cycles = (uint64_t)header(image, H_CYCLES_HIGH) << 32 | header(image, H_CYCLES);
    const uint8_t *at = image + header(image, H_SEGMENT_TABLE);
    for (uint32_t n = 0; n < header(image, H_SEGMENTS); ++n, at += 4u * SEGMENT_WORDS)
        memcpy(memory(program, get32(at)), image + get32(at + 4), get32(at + 8));
    at = image + header(image, H_RELOCATION_TABLE);
    for (uint32_t n = 0; n < header(image, H_RELOCATIONS); ++n, at += 4) {
        uint8_t *word = memory(program, get32(at));
        put32(word, get32(word) + device->address);
    }
    clean(program, 0, program->bytes);
    return LOOPNEST_OK;
}

int loopnest_tensor(const struct loopnest_program *program, uint32_t n,
                    struct loopnest_tensor *tensor) {
    if (n >= header(program->image, H_TENSORS)) return LOOPNEST_NO_TENSOR;
    const uint8_t *r = record(program, n);
    tensor->name = (const char *)program->image + header(program->image, H_STRINGS) +
                   field(r, T_NAME);
    tensor->result = (field(r, T_FLAGS) & RESULT) != 0;
    tensor->type = (enum loopnest_type)field(r, T_TYPE);
    tensor->order = field(r, T_ORDER);
    tensor->elements = 1;
    for (uint32_t m = 0; m < LOOPNEST_MAX_ORDER; ++m) {
        tensor->shape[m] = field(r, T_SHAPE + m);
        tensor->elements *= tensor->shape[m];
    }
    return LOOPNEST_OK;
}

static int named(const struct loopnest_program *p, uint32_t n, const char *name, int result) {
    struct loopnest_tensor tensor;
    return !loopnest_tensor(p, n, &tensor) && tensor.result == result &&
           !strcmp(tensor.name, name);
}

/* Packs an input level by level. A node of a level has a part of the elements: those with the
   coordinates of the levels above, `at` being the first one. */
struct packer {
    const struct loopnest_program *program;
    const uint8_t *record, *elements;
    uint32_t bytes, order;                      /* of a value; levels */
    uint32_t stride[LOOPNEST_MAX_ORDER];        /* of each level, in elements */
    uint32_t span[LOOPNEST_MAX_ORDER + 1];      /* positions of a node of each level */
    uint32_t nodes[LOOPNEST_MAX_ORDER + 1];     /* so far */
    uint32_t words[LOOPNEST_MAX_ORDER];         /* of each compressed level so far */
    int full;
};

static uint32_t level_field(const struct packer *k, uint32_t level, uint32_t word) {
    return field(k->record, T_LEVELS + 4 * level + word);
}

static uint32_t size_of(const struct packer *k, uint32_t level) {
    return field(k->record, T_SHAPE + field(k->record, T_MODE + level));
}

static int is_absent(const struct packer *k, uint32_t at) {
    uint32_t value = 0, absent = field(k->record, T_ABSENT);
    const uint8_t *element = k->elements + (size_t)at * k->bytes;
    for (uint32_t i = 0; i < k->bytes; ++i) value |= (uint32_t)element[i] << 8 * i;
    const uint32_t type = field(k->record, T_TYPE);
    if (!absent && (type == LOOPNEST_BF16 || type == LOOPNEST_FP32)) /* -0, too */
        value &= type == LOOPNEST_BF16 ? 0x7fffu : 0x7fffffffu;
    return value == absent;
}

static int is_empty(const struct packer *k, uint32_t level, uint32_t at) {
    if (level == k->order) return is_absent(k, at);
    for (uint32_t c = 0; c < size_of(k, level); ++c)
        if (!is_empty(k, level + 1, at + c * k->stride[level])) return 0;
    return 1;
}

/* Write a word of a level's table (0) or block words (2). */
static void put_level(struct packer *k, uint32_t level, uint32_t array, uint32_t n, uint32_t word) {
    if (4 * (n + 1) > level_field(k, level, array + 1))
        k->full = 1;
    else
        put32(memory(k->program, level_field(k, level, array)) + 4 * (size_t)n, word);
}

static void pack(struct packer *k, uint32_t level, uint32_t at) {
    if (k->full) return;
    const uint32_t node = k->nodes[level]++;
    if (level == k->order) {
        if (field(k->record, T_FLAGS) & MASK) return;
        if ((node + 1) * k->bytes > field(k->record, T_VALUE_BYTES))
            k->full = 1;
        else
            memcpy(memory(k->program, field(k->record, T_VALUES)) + (size_t)node * k->bytes,
                   k->elements + (size_t)at * k->bytes, k->bytes);
        return;
    }
    const uint32_t size = size_of(k, level), step = k->stride[level];
    if (!field(k->record, T_KIND + level)) {
        for (uint32_t c = 0; c < size; ++c) pack(k, level + 1, at + c * step);
        return;
    }
    const int mask = (field(k->record, T_FLAGS) & MASK) && level + 1 == k->order;
    const uint32_t child = k->nodes[level + 1] * k->span[level + 1];
    uint32_t word = 0;
    put_level(k, level, 0, PACKED_STRIDE * node, k->words[level]);
    put_level(k, level, 0, PACKED_STRIDE * node + 1, mask ? 0 : child);
    for (uint32_t c = 0; c < size; ++c) {
        if (!is_empty(k, level + 1, at + c * step)) {
            word |= c / LANES << 16 | 1u << c % LANES;
            pack(k, level + 1, at + c * step);
        }
        if (word && (c % LANES == LANES - 1 || c + 1 == size)) {
            put_level(k, level, 2, k->words[level]++, word);
            word = 0;
        }
    }
    put_level(k, level, 0, PACKED_STRIDE * (node + 1), k->words[level]);
}

static int set(struct loopnest_program *p, const uint8_t *r, const void *elements) {
    struct packer k;
    memset(&k, 0, sizeof k);
    k.program = p, k.record = r, k.elements = elements;
    k.bytes = type_bytes[field(r, T_TYPE)], k.order = field(r, T_ORDER);
    k.span[k.order] = 1;
    for (uint32_t level = k.order; level-- > 0;) {
        k.span[level] = field(r, T_KIND + level) ? 1 : size_of(&k, level) * k.span[level + 1];
        k.stride[level] = 1;
        for (uint32_t m = field(r, T_MODE + level) + 1; m < k.order; ++m)
            k.stride[level] *= field(r, T_SHAPE + m);
    }
    pack(&k, 0, 0);
    for (uint32_t level = 0; level < k.order; ++level) {
        clean(p, level_field(&k, level, 0), level_field(&k, level, 1));
        clean(p, level_field(&k, level, 2), level_field(&k, level, 3));
    }
    clean(p, field(r, T_VALUES), field(r, T_VALUE_BYTES));
    return k.full ? LOOPNEST_FULL : LOOPNEST_OK;
}

int loopnest_set_input(struct loopnest_program *program, const char *name, const void *elements) {
    int status = LOOPNEST_NO_TENSOR;
    for (uint32_t n = 0; n < header(program->image, H_TENSORS); ++n) {
        if (!named(program, n, name, 0)) continue;
        status = set(program, record(program, n), elements);
        if (status) break;
    }
    return status;
}

static void get_dense(const struct loopnest_program *p, const uint8_t *r, uint8_t *elements) {
    const uint32_t bytes = type_bytes[field(r, T_TYPE)], order = field(r, T_ORDER);
    uint32_t at[LOOPNEST_MAX_ORDER] = {0};
    for (uint32_t n = 0;; ++n) {
        uint32_t place = 0, m = order;
        for (uint32_t i = 0; i < order; ++i) {
            if (!field(r, T_SHAPE + i)) return;
            place += at[i] * field(r, T_STEP + i);
        }
        memcpy(elements + (size_t)n * bytes,
               memory(p, field(r, T_VALUES)) + (size_t)place * bytes, bytes);
        while (m && ++at[m - 1] == field(r, T_SHAPE + m - 1)) at[--m] = 0;
        if (!m) return;
    }
}

/* Copy one entry of a compressed result; what is behind the last coordinate is padding. */
static void get_entry(const uint8_t *r, uint32_t fiber, uint32_t key, const uint8_t *value,
                      uint8_t *elements) {
    const uint32_t bytes = type_bytes[field(r, T_TYPE)];
    uint32_t place = 0;
    for (uint32_t m = 0; m < field(r, T_ORDER); ++m) {
        const uint32_t of = field(r, T_KEYS) >> m & 1 ? key : fiber;
        const uint32_t c = of % field(r, T_UPPER + m) / field(r, T_STEP + m);
        if (c >= field(r, T_SHAPE + m)) return;
        place = place * field(r, T_SHAPE + m) + c;
    }
    memcpy(elements + (size_t)place * bytes, value, bytes);
}

static void get_compressed(const struct loopnest_program *p, const uint8_t *r, uint8_t *elements) {
    const uint32_t bytes = type_bytes[field(r, T_TYPE)];
    uint32_t elements_of = 1;
    for (uint32_t m = 0; m < field(r, T_ORDER); ++m) elements_of *= field(r, T_SHAPE + m);
    memset(elements, 0, (size_t)elements_of * bytes);
    const uint8_t *entry = memory(p, field(r, T_LEVELS));
    const uint8_t *words = memory(p, field(r, T_LEVELS + 2));
    const uint8_t *values = memory(p, field(r, T_VALUES));
    for (uint32_t fiber = 0; fiber < field(r, T_FIBERS); ++fiber, entry += 4 * OPEN_STRIDE) {
        uint32_t position = get32(entry + 4);
        for (uint32_t n = get32(entry); n < get32(entry + 8); ++n) {
            const uint32_t word = get32(words + 4 * (size_t)n);
            for (uint32_t lane = 0; lane < LANES; ++lane)
                if (word >> lane & 1)
                    get_entry(r, fiber, (word >> 16) * LANES + lane,
                              values + (size_t)position++ * bytes, elements);
        }
    }
}

int loopnest_get_result(const struct loopnest_program *program, const char *name,
                        void *elements) {
    for (uint32_t n = 0; n < header(program->image, H_TENSORS); ++n) {
        if (!named(program, n, name, 1)) continue;
        const uint8_t *r = record(program, n);
        invalidate(program, field(r, T_LEVELS), field(r, T_LEVELS + 1));
        invalidate(program, field(r, T_LEVELS + 2), field(r, T_LEVELS + 3));
        invalidate(program, field(r, T_VALUES), field(r, T_VALUE_BYTES));
        if (field(r, T_FLAGS) & COMPRESSED)
            get_compressed(program, r, elements);
        else
            get_dense(program, r, elements);
        return LOOPNEST_OK;
    }
    return LOOPNEST_NO_TENSOR;
}

int loopnest_start(struct loopnest_program *program, int interrupt) {
    struct loopnest_device *d = program->device;
    if (d->read(d->context, LOOPNEST_REGISTER_STATUS) & (BUSY | LATE)) return LOOPNEST_BUSY;
    program->done = 0;
    program->interrupts = interrupt;
    program->error = program->error_where = 0;
    d->write(d->context, LOOPNEST_REGISTER_STATUS, DONE);
    d->write(d->context, LOOPNEST_REGISTER_KERNELS,
             d->address + header(program->image, H_START));
    d->write(d->context, LOOPNEST_REGISTER_CONTROL, interrupt ? START | INTERRUPT_ENABLE : START);
    return LOOPNEST_OK;
}

int loopnest_interrupt(struct loopnest_program *program) {
    struct loopnest_device *d = program->device;
    if (program->done) return 1;
    if (!(d->read(d->context, LOOPNEST_REGISTER_STATUS) & DONE)) return 0;
    program->error = d->read(d->context, LOOPNEST_REGISTER_ERROR);
    program->error_where = d->read(d->context, LOOPNEST_REGISTER_ERROR_WHERE);
    if (program->error) /* the chip may still wait for transfers */
        d->write(d->context, LOOPNEST_REGISTER_CONTROL, SOFT_RESET);
    d->write(d->context, LOOPNEST_REGISTER_STATUS, DONE);
    program->done = 1;
    return 1;
}

int loopnest_wait(struct loopnest_program *program, uint32_t polls) {
    struct loopnest_device *d = program->device;
    for (uint32_t n = 0; n < polls; ++n) {
        if (program->interrupts ? program->done : loopnest_interrupt(program))
            return program->error ? LOOPNEST_FAILED : LOOPNEST_OK;
        if (d->idle) d->idle(d->context);
    }
    return LOOPNEST_TIMEOUT;
}

int loopnest_stop(struct loopnest_program *program, uint32_t polls) {
    struct loopnest_device *d = program->device;
    d->write(d->context, LOOPNEST_REGISTER_CONTROL, SOFT_RESET);
    for (uint32_t n = 0; n < polls; ++n) {
        if (!(d->read(d->context, LOOPNEST_REGISTER_STATUS) & (BUSY | LATE))) return LOOPNEST_OK;
        if (d->idle) d->idle(d->context);
    }
    return LOOPNEST_TIMEOUT;
}

uint64_t loopnest_counter(const struct loopnest_program *program, uint32_t kernel,
                          uint32_t counter) {
    const uint8_t *table_of = program->image + header(program->image, H_COUNTERS);
    if (kernel >= program->kernels || 8 * counter >= LOOPNEST_SNAPSHOT_LINES * LINE) return 0;
    const uint32_t offset = get32(table_of + 4 * (size_t)kernel) + 8 * counter;
    invalidate(program, offset, 8);
    const uint8_t *at = memory(program, offset);
    return (uint64_t)get32(at + 4) << 32 | get32(at);
}

const char *loopnest_error(const struct loopnest_program *program, int status) {
    switch (status) {
    case LOOPNEST_OK: return "no error";
    case LOOPNEST_NO_IMAGE: return "the bytes are no image of a Loopnest program";
    case LOOPNEST_VERSION: return "the image has another version of the format";
    case LOOPNEST_DAMAGED: return "the image is truncated or damaged";
    case LOOPNEST_NO_CHIP: return "there is no Loopnest chip at these registers";
    case LOOPNEST_OTHER_CHIP: return "the image is for a chip of another configuration";
    case LOOPNEST_MEMORY: return "the memory is too small, or its address no multiple of 32";
    case LOOPNEST_NO_TENSOR: return "no input or result has this name";
    case LOOPNEST_FULL: return "the input has more entries than are reserved for it";
    case LOOPNEST_BUSY: return "the chip is running";
    case LOOPNEST_TIMEOUT: return "the run has not ended yet";
    case LOOPNEST_FAILED: break;
    default: return "unknown status";
    }
    switch (program->error) {
    case LOOPNEST_ERROR_BAD_DESCRIPTOR: return "fields of the kernel descriptor contradict each other";
    case LOOPNEST_ERROR_BUDGET: return "the kernel's cycle budget ran out";
    case LOOPNEST_ERROR_READ_ERROR: return "the memory answered a read with an error";
    case LOOPNEST_ERROR_WRITE_ERROR: return "the memory answered a write with an error";
    case LOOPNEST_ERROR_RESULT_FULL: return "a region reserved for the result is too small";
    case LOOPNEST_ERROR_OVERFLOW: return "a value does not fit int32";
    case LOOPNEST_ERROR_SLOTS: return "the accumulator's slots ran out";
    case LOOPNEST_ERROR_COORDINATE: return "a coordinate is at or above its index's size";
    case LOOPNEST_ERROR_TIMEOUT: return "memory timeout";
    case LOOPNEST_ERROR_TENSOR: return "a tensor in memory is inconsistent";
    case LOOPNEST_ERROR_OVERLAP: return "the result overlaps an operand or the next descriptor";
    case LOOPNEST_ERROR_KEYS: return "the result's keys do not ascend";
    default: return "unknown error";
    }
}

uint16_t loopnest_bf16(float number) {
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u); /* NaN */
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}
