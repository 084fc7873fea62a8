/* Which states a decode call keeps: commit_checks.c on every backend. */
#include "harness.h"

#include "backend_bars.h"
#include "backend_suite.h"
#include "commit_checks.h"

static fkda_status run(const void *context, const fkda_decode_desc *desc, const commit_buffer *buffers, uint32_t *device_status)
{
    (void)device_status;
    const backend_bars *const bars = context;
    fkda_decode_desc d = *desc;
    void *at[COMMIT_ARGUMENTS];
    size_t bytes;
    d.backend = bars->id, d.threads = 2;
    for (int i = 0; i < COMMIT_ARGUMENTS; ++i) at[i] = buffers[i].data;
    fkda_status status = fkda_decode_workspace_size(&d, &bytes);
    if (status != FKDA_OK) return status;
    guarded workspace = guarded_alloc(bytes, FKDA_WORKSPACE_ALIGN, GUARD_AT_END, 0xff);
    const fkda_decode_args a = commit_args(at);
    status = fkda_decode(&d, &a, workspace.data, bytes, NULL);
    guarded_free(&workspace);
    return status;
}

static commit_way way_of(const backend_bars *bars) { return (commit_way){.run = run, .context = bars, .name = fkda_backend_name(bars->id)}; }

static void commits(const backend_bars *bars)
{
    const commit_way way = way_of(bars);
    check_commits(&way);
}

static void step_states(const backend_bars *bars)
{
    const commit_way way = way_of(bars);
    check_step_states(&way);
}

static void trees(const backend_bars *bars)
{
    const commit_way way = way_of(bars);
    check_trees(&way);
}

static void nan_stays(const backend_bars *bars)
{
    const commit_way way = way_of(bars);
    check_commit_nan(&way);
}

void test_decode_commits(void **state)
{
    (void)state;
    bars_for_each(commits);
}

void test_decode_step_states(void **state)
{
    (void)state;
    bars_for_each(step_states);
}

void test_decode_trees(void **state)
{
    (void)state;
    bars_for_each(trees);
}

void test_decode_nan_stays_behind_its_token(void **state)
{
    (void)state;
    bars_for_each(nan_stays);
}
