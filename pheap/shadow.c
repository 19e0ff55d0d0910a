/* SPDX-License-Identifier: MIT */
/*
 * The shadow view: a second private view that is changed by replay only, so that it shows what the write view was when the
 * transaction began.  The verify mode maps it when the heap is opened, tracking when it is first used.
 */
#include "pheap/core.h"

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

ph_status ph_shadow_apply(struct ph_core *core)
{
    const struct ph_record_builder *builder = &core->builder;
    ph_status status = PH_OK;
    for (size_t at = 0; at < builder->length; at += ph_record_length(builder->bytes + at)) {
        uint32_t cursor = sizeof(struct ph_record_header);
        struct ph_operation operation;
        while (status == PH_OK && ph_record_next(builder->bytes + at, &cursor, &operation))
            status = ph_view_apply(&core->shadow_view, &operation);
    }
    return status;
}
