/* SPDX-License-Identifier: MIT */
/* Faults of the simulated machine: which call is struck, and how.  The machine's mutex is held when a call is made. */
#include "tests/support/simfs_internal.h"

#include <errno.h>

/* What a file system that has shut itself down refuses. */
#define WRITING                                                                                       \
    (PH_SIM_WRITE | PH_SIM_SYNC | PH_SIM_TRUNCATE | PH_SIM_ALLOCATE | PH_SIM_UNLINK | PH_SIM_RENAME | \
     PH_SIM_SYNC_DIRECTORY)

int sim_strike(struct ph_sim *sim, unsigned ops, const char *what, const char *path, uint64_t length, uint64_t offset)
{
    for (unsigned i = 0; i < PH_SIM_OP_KINDS; i++)
        sim->calls[i] += (ops >> i) & 1;
    if (sim->power_off || (sim->shut_down && (ops & WRITING) != 0))
        return -EIO;
    if (sim->fault_countdown == 0 || sim->fault_paused || (sim->fault_ops & ops) == 0)
        return 0;
    if (sim->fault_countdown > 1) {
        sim->fault_countdown--;
        return 0;
    }
    if (sim->fault_mode == PH_SIM_DIE && sim->grave == NULL)
        return 0;
    if (sim->fault_mode != PH_SIM_FOREVER)
        sim->fault_countdown = 0;
    if (sim->struck++ == 0)
        (void)snprintf(sim->struck_at, sizeof sim->struck_at, "%s %s %llu@%llu", what, path, (unsigned long long)length,
                       (unsigned long long)offset);
    if (sim->fault_mode == PH_SIM_DIE) {
        (void)pthread_mutex_unlock(&sim->mutex);
        siglongjmp(*sim->grave, 1);
    }
    return sim->fault_mode == PH_SIM_SHORT ? SIM_SHORT_TRANSFER : -sim->fault_error;
}

void ph_sim_fail_at(struct ph_sim *sim, unsigned ops, uint64_t nth, int error, enum ph_sim_fault_mode mode)
{
    sim->fault_ops = ops;
    sim->fault_countdown = nth;
    sim->fault_error = error;
    sim->fault_mode = mode;
    sim->struck = 0;
    sim->struck_at[0] = '\0';
}

void ph_sim_fail_clear(struct ph_sim *sim)
{
    sim->fault_countdown = 0;
}

void ph_sim_fail_pause(struct ph_sim *sim, bool paused)
{
    sim->fault_paused = paused;
}

void ph_sim_set_mortal(struct ph_sim *sim, sigjmp_buf *grave)
{
    sim->grave = grave;
}

uint64_t ph_sim_struck(const struct ph_sim *sim)
{
    return sim->struck;
}

const char *ph_sim_struck_at(const struct ph_sim *sim)
{
    return sim->struck_at;
}

uint64_t ph_sim_struck_position(const struct ph_sim *sim)
{
    return sim->struck_position;
}

uint64_t ph_sim_calls(const struct ph_sim *sim, unsigned ops)
{
    uint64_t calls = 0;
    for (unsigned i = 0; i < PH_SIM_OP_KINDS; i++)
        calls += ((ops >> i) & 1) * sim->calls[i];
    return calls;
}

void ph_sim_power_off(struct ph_sim *sim)
{
    sim->power_off = true;
}
