/* The caller's states and the panels of a task: panel p holds PANEL columns of S [K,V] from PANEL (first_panel + p) on.
 *
 * NHKV rows [V] are cut into panels. NHVK rows [K] are columns of S: four of them at a time pass through `rows`, 4 x 4 elements per step.
 */
#include <string.h>

#include "cpu.h"
#include "dtype.h"

enum { P = FKDAI_CPU_PANEL, W = FKDAI_CPU_MAX_WIDTH };

typedef float quad __attribute__((vector_size(16)));

/* Element [hv][0][0] of the state in this row, counting from the base. */
static int64_t first_element(const fkdai_cpu_task *task, int64_t hv, const fkda_state_desc *desc, int64_t row)
{
    return row * desc->row_stride + hv * task->desc->K * task->desc->V;
}

static int64_t first_column(const fkdai_cpu_task *task, int p) { return (int64_t)(task->first_panel + p) * P; }

static quad load_quad(const float *p)
{
    quad x;
    memcpy(&x, p, sizeof x);
    return x;
}

/* to[i][j] = from[j][i], 4 x 4, rows from_stride and to_stride elements apart. */
static void exchange_axes(const float *from, int64_t from_stride, float *to, int64_t to_stride)
{
    const quad a = load_quad(from), b = load_quad(from + from_stride), c = load_quad(from + 2 * from_stride), d = load_quad(from + 3 * from_stride);
    const quad ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const quad cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    const quad rows[4] = {__builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5), __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7),
                          __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5), __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7)};
    for (int i = 0; i < 4; ++i) memcpy(to + i * to_stride, &rows[i], sizeof rows[i]);
}

static const void *element_at(const void *base, fkda_dtype dtype, int64_t i) { return (const char *)base + i * fkdai_dtype_bytes(dtype); }

void fkdai_cpu_read_state(const fkdai_cpu_task *task, int64_t hv, fkdai_cpu_head *head)
{
    const fkda_state_desc *const desc = &task->desc->initial_state;
    const int64_t K = task->desc->K, V = task->desc->V, row = fkdai_initial_row(task->desc, task->args, task->n);
    if (row == FKDAI_NO_ROW) {
        memset(head->state, 0, (size_t)task->panel_count * sizeof head->state[0]);
        return;
    }
    const void *const base = element_at(task->args->initial_state, desc->dtype, first_element(task, hv, desc, row));
    for (int p = 0; p < task->panel_count; ++p) {
        if (desc->layout == FKDA_STATE_NHKV) {
            for (int64_t c = 0; c < K; ++c)
                task->ukr->load_row(element_at(base, desc->dtype, c * V + first_column(task, p)), desc->dtype, P, 0, 1, head->state[p][c]);
            continue;
        }
        for (int v = 0; v < P; v += 4) {
            float rows[4][W];
            for (int i = 0; i < 4; ++i)
                task->ukr->load_row(element_at(base, desc->dtype, (first_column(task, p) + v + i) * K), desc->dtype, K, 0, 1, rows[i]);
            for (int64_t c = 0; c < K; c += 4) exchange_axes(&rows[0][c], W, &head->state[p][c][v], P);
        }
    }
}

/* Panel p of S into the state of value head hv in this row of the caller's. */
static void write_panel(const fkdai_cpu_task *task, const fkda_state_desc *desc, void *states, int64_t row, int64_t hv, int p, const float *panel)
{
    if (row == FKDAI_NO_ROW) return;
    const int64_t K = task->desc->K, V = task->desc->V, element = fkdai_dtype_bytes(desc->dtype);
    char *const base = (char *)states + first_element(task, hv, desc, row) * element;
    if (desc->layout == FKDA_STATE_NHKV) {
        for (int64_t c = 0; c < K; ++c) task->ukr->store_row(panel + c * P, P, desc->dtype, base + (c * V + first_column(task, p)) * element);
        return;
    }
    for (int v = 0; v < P; v += 4) {
        float rows[4][W];
        for (int64_t c = 0; c < K; c += 4) exchange_axes(panel + c * P + v, P, &rows[0][c], W);
        for (int i = 0; i < 4; ++i) task->ukr->store_row(rows[i], K, desc->dtype, base + (first_column(task, p) + v + i) * K * element);
    }
}

void fkdai_cpu_write_state(const fkdai_cpu_task *task, int64_t hv, const fkdai_cpu_head *head)
{
    const int64_t row = fkdai_final_row(task->desc, task->args, task->n);
    for (int p = 0; p < task->panel_count; ++p)
        write_panel(task, &task->desc->final_state, task->args->final_state, row, hv, p, head->state[p][0]);
}

void fkdai_cpu_write_checkpoints(const fkdai_cpu_task *task, int64_t hv, int64_t position, int p, const float *panel)
{
    const fkdai_checkpoints *const c = task->checkpoints;
    for (int64_t j = fkdai_find_checkpoint(c, position, 0); j < c->count; j = fkdai_find_checkpoint(c, position, j + 1))
        write_panel(task, &task->desc->checkpoints, task->args->checkpoint_state, fkdai_checkpoint_row(task->desc, task->args, c->first + j), hv, p,
                    panel);
}
