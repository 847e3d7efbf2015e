#include "loopnest_steps.h"

#include <string.h>

static const uint32_t type_bytes[] = {1, 2, 4, 4};

/* To the nearest integer, half to even, within its type. */
static int32_t rounded(float number, int32_t low, int32_t high) {
    if (!(number > (float)low)) return low;
    if (number >= (float)high) return high;
    int32_t below = (int32_t)number;
    if ((float)below > number) --below;
    const float rest = number - (float)below;
    return below + (rest > 0.5f || (rest == 0.5f && (below & 1)));
}

static void to_chip(const struct loopnest_tensor *tensor, const float *from, uint8_t *to) {
    for (uint32_t n = 0; n < tensor->elements; ++n, to += type_bytes[tensor->type]) {
        if (tensor->type == LOOPNEST_INT8) {
            const int8_t value = (int8_t)rounded(from[n], -128, 127);
            memcpy(to, &value, 1);
        } else if (tensor->type == LOOPNEST_BF16) {
            const uint16_t value = loopnest_bf16(from[n]);
            memcpy(to, &value, 2);
        } else if (tensor->type == LOOPNEST_INT32) {
            const int32_t value = rounded(from[n], INT32_MIN, INT32_MAX);
            memcpy(to, &value, 4);
        } else {
            memcpy(to, &from[n], 4);
        }
    }
}

static void from_chip(const struct loopnest_tensor *tensor, const uint8_t *from, float *to) {
    for (uint32_t n = 0; n < tensor->elements; ++n, from += type_bytes[tensor->type]) {
        if (tensor->type == LOOPNEST_INT8) {
            int8_t value;
            memcpy(&value, from, 1);
            to[n] = (float)value;
        } else if (tensor->type == LOOPNEST_BF16) {
            uint16_t value;
            memcpy(&value, from, 2);
            const uint32_t word = (uint32_t)value << 16;
            memcpy(&to[n], &word, 4);
        } else if (tensor->type == LOOPNEST_INT32) {
            int32_t value;
            memcpy(&value, from, 4);
            to[n] = (float)value;
        } else {
            memcpy(&to[n], from, 4);
        }
    }
}

/* Bring the inputs of an image to the chip's memory, or its results from there. */
static int move(struct loopnest_model *model, struct loopnest_program *image, int results) {
    struct loopnest_tensor tensor;
    for (uint32_t n = 0; !loopnest_tensor(image, n, &tensor); ++n) {
        if (tensor.result != results) continue;
        float *value = model->value(model->context, tensor.name, tensor.elements);
        if (!value) continue;
        if (tensor.elements > model->scratch_bytes / type_bytes[tensor.type])
            return LOOPNEST_MEMORY;
        if (!results) to_chip(&tensor, value, model->scratch);
        const int status = results ? loopnest_get_result(image, tensor.name, model->scratch)
                                   : loopnest_set_input(image, tensor.name, model->scratch);
        if (status) return status;
        if (results) from_chip(&tensor, model->scratch, value);
    }
    return LOOPNEST_OK;
}

int loopnest_resume(struct loopnest_model *model, uint32_t polls,
                    const struct loopnest_step **step) {
    *step = 0;
    while (model->next < model->step_count) {
        const struct loopnest_step *own = &model->steps[model->next];
        if (!own->image) {
            ++model->next;
            *step = own;
            return LOOPNEST_OK;
        }
        struct loopnest_program *image = &model->images[own->image - 1];
        int status = LOOPNEST_OK;
        if (!model->running) {
            status = move(model, image, 0);
            if (!status) status = loopnest_start(image, 0);
            if (status) return status;
            model->running = 1;
        }
        status = loopnest_wait(image, polls);
        model->running = status == LOOPNEST_TIMEOUT;
        if (!status) status = move(model, image, 1);
        if (status) return status;
        ++model->next;
    }
    model->next = 0;
    return LOOPNEST_OK;
}
