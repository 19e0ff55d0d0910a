/* SPDX-License-Identifier: MIT */
/*
 * The shadow view: a second private view that is changed by replay only, so that it shows what the write view was when the
 * transaction began.  The verify mode maps it when the heap is opened, tracking when it is first used.
 */
#include "pheap/core.h"

#include <string.h>

ph_status ph_shadow_map(struct ph_core *core, uint64_t reserve_bytes, uint64_t least_bytes)
{
    if (atomic_load_explicit(&core->shadow_mapped, memory_order_relaxed))
        return PH_OK;
    ph_status status =
        ph_view_map(&core->shadow_view, &core->store, reserve_bytes, least_bytes, core->write_view.budget_bytes);
    if (status == PH_OK)
        atomic_store_explicit(&core->shadow_mapped, true, memory_order_release);
    return status;
}

static void apply(struct ph_view *shadow, const struct ph_operation *operation)
{
    if (operation->kind != PH_OPERATION_WRITE && operation->kind != PH_OPERATION_FILL)
        return;
    uint8_t *target = shadow->base + operation->offset;
    ph_view_touch(shadow, operation->offset, operation->length);
    if (operation->kind == PH_OPERATION_WRITE)
        memcpy(target, operation->bytes, operation->length);
    else
        for (uint64_t at = 0; at < operation->length; at += 8)
            memcpy(target + at, &operation->value, 8);
}

void ph_shadow_apply(struct ph_core *core)
{
    const struct ph_record_builder *builder = &core->builder;
    for (size_t at = 0; at < builder->length; at += ph_record_length(builder->bytes + at)) {
        uint32_t cursor = sizeof(struct ph_record_header);
        struct ph_operation operation;
        while (ph_record_next(builder->bytes + at, &cursor, &operation))
            apply(&core->shadow_view, &operation);
    }
}
