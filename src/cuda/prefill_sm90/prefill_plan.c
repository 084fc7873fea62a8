/* Grids and workspace of the prefill kernel: arithmetic, no CUDA. */
#include "prefill_sm90/prefill_plan.h"

#include "prefill_sm90/prefill_tuning.h"
#include "schedule/schedule_tuning.h"

/* Of a kind of cluster: its name, CTAs, and those of them that prepare. */
static const struct { fkdai_prefill_mapping mapping; int ranks, preparers; } CLUSTERS[] = {
    {FKDAI_OCTET, 8, 4}, {FKDAI_SEXTET, 6, 4}, {FKDAI_QUINT, 5, 3}, {FKDAI_QUAD, 4, 2}};
enum { DUO_RANKS = 2 };
enum { WIDTH = 128, CHUNK = 32, HALVES = 2, ALIGN = 256 };

static int at_least_one(int count) { return count > 1 ? count : 1; }

/* One worker for each job? */
static int is_room(int workers, int64_t N, int64_t H) { return H == 0 || N <= workers / H; }

static int quad_is_faster(int quads, fkdai_prefill_jobs of)
{
    if (is_room(quads, of.N, of.H)) return 1;
    const int64_t length = of.tokens / of.N;
    const int jobs = length >= FKDAI_QUAD_MORE_TOKENS ? FKDAI_QUAD_MORE_JOBS_NUMERATOR : FKDAI_QUAD_JOBS_NUMERATOR;
    return length >= FKDAI_QUAD_CUT_TOKENS && is_room(quads * jobs / FKDAI_QUAD_JOBS_DENOMINATOR, of.N, of.H);
}

/* Few heads, and sequences of which one may be much longer than the others. */
static int quad_may_be_faster(int quads, fkdai_prefill_jobs of)
{
    return of.is_packed && of.N > 1 && of.N <= FKDAI_OPEN_SEQUENCES && of.tokens >= FKDAI_QUAD_LEAST_TOKENS &&
           is_room(quads * FKDAI_QUAD_JOBS_NUMERATOR / FKDAI_QUAD_JOBS_DENOMINATOR, 1, of.H);
}

/* Of sequences of equal length: units of a job, and what clusters take for all jobs, in 10 ns. */
static int64_t units_of_a_job(fkdai_prefill_jobs of) { return (of.tokens / of.N + CHUNK - 1) / CHUNK + FKDAI_JOB_COST; }
static int64_t cost_in_clusters(int clusters, fkdai_prefill_jobs of)
{
    const int64_t job = units_of_a_job(of), equal = (of.N * of.H * job + clusters - 1) / clusters;
    return (equal > job ? equal : job) * FKDAI_DUO_CHUNK_COST;
}

/* What a launch more costs is little beside what the call takes if all sequences are equal. */
static int device_is_asked(int clusters, fkdai_prefill_jobs of)
{
    return of.N <= FKDAI_ASKED_SEQUENCES && cost_in_clusters(clusters, of) >= FKDAI_ASKED_COST;
}

/* A block for every job, without a schedule, ends before clusters with one. Packed sequences may differ: of them the launcher asks, by their lengths. */
static int lone_solo_is_faster(int clusters, fkdai_prefill_jobs of)
{
    return !of.is_packed && is_room(clusters * DUO_RANKS, of.N, of.H) &&
           units_of_a_job(of) * FKDAI_SOLO_CHUNK_COST <= cost_in_clusters(clusters, of) + FKDAI_SCHEDULE_COST;
}

static int may_fall_inside_a_chunk(fkdai_prefill_stops stops) { return stops.per_sequence > 0 || stops.every % CHUNK != 0; }

fkdai_prefill_grid fkdai_prefill_make_grid(fkdai_prefill_mapping wanted, fkdai_prefill_jobs of, fkdai_prefill_stops stops, int multiprocessors)
{
    const int64_t N = of.N, H = of.H;
    const int clusters = at_least_one(multiprocessors / DUO_RANKS);
    const int quads = at_least_one(multiprocessors * FKDAI_QUADS_NUMERATOR / FKDAI_QUADS_DENOMINATOR);
    const int octets = multiprocessors * FKDAI_OCTETS_NUMERATOR / FKDAI_OCTETS_DENOMINATOR;
    const int sextets = multiprocessors * FKDAI_SEXTETS_NUMERATOR / FKDAI_SEXTETS_DENOMINATOR;
    const int quints = multiprocessors * FKDAI_QUINTS_NUMERATOR / FKDAI_QUINTS_DENOMINATOR;
    const int octet_can = is_room(octets, N, H) && !may_fall_inside_a_chunk(stops);
    const int sextet_can = is_room(sextets, N, H), quint_can = is_room(quints, N, H);
    const int cannot = (wanted == FKDAI_OCTET && !octet_can) || (wanted == FKDAI_SEXTET && !sextet_can) || (wanted == FKDAI_QUINT && !quint_can);
    fkdai_prefill_mapping mapping = cannot ? FKDAI_QUAD : wanted;
    if (wanted == FKDAI_EITHER && octet_can) mapping = FKDAI_OCTET;
    else if (wanted == FKDAI_EITHER && sextet_can) mapping = FKDAI_SEXTET;
    else if (wanted == FKDAI_EITHER && quint_can) mapping = FKDAI_QUINT;
    else if (wanted == FKDAI_EITHER && quad_is_faster(quads, of)) mapping = FKDAI_QUAD;
    else if (wanted == FKDAI_EITHER && is_room(clusters, N, H)) mapping = FKDAI_DUO;
    else if (wanted == FKDAI_EITHER && lone_solo_is_faster(clusters, of)) mapping = FKDAI_SOLO;
    const int is_open = wanted == FKDAI_EITHER && (mapping & FKDAI_EITHER) != 0 && quad_may_be_faster(quads, of);
    const int room = mapping == FKDAI_SOLO ? clusters * DUO_RANKS : mapping == FKDAI_QUAD ? quads : mapping == FKDAI_QUINT ? quints :
                     mapping == FKDAI_SEXTET ? sextets : mapping == FKDAI_OCTET ? octets : clusters;
    return (fkdai_prefill_grid){mapping, is_room(room, N, H) ? (int)(N * H) : room, is_open ? quads : 0, is_open && device_is_asked(clusters, of)};
}

fkdai_prefill_grid fkdai_prefill_quads(fkdai_prefill_grid grid) { return (fkdai_prefill_grid){FKDAI_QUAD, grid.quads, 0, 0}; }

int fkdai_prefill_ranks(fkdai_prefill_grid grid)
{
    for (size_t i = 0; i < sizeof CLUSTERS / sizeof *CLUSTERS; i++)
        if (grid.mapping == CLUSTERS[i].mapping) return CLUSTERS[i].ranks;
    return DUO_RANKS;
}

static size_t preparers_of(fkdai_prefill_mapping mapping)
{
    for (size_t i = 0; i < sizeof CLUSTERS / sizeof *CLUSTERS; i++)
        if (mapping == CLUSTERS[i].mapping) return (size_t)CLUSTERS[i].preparers;
    return 0;
}

int fkdai_prefill_clusters(fkdai_prefill_grid grid) { return grid.mapping == FKDAI_SOLO ? 0 : grid.workers; }

int fkdai_prefill_singles(fkdai_prefill_grid grid)
{
    if ((grid.mapping & FKDAI_SOLO) == 0) return 0;
    return grid.mapping == FKDAI_SOLO ? grid.workers : grid.workers * DUO_RANKS;
}

/* Whole clusters, so one block more than there are workers may be launched. */
int fkdai_prefill_blocks(fkdai_prefill_grid grid)
{
    const int ranks = fkdai_prefill_ranks(grid);
    return grid.mapping == FKDAI_SOLO ? (grid.workers + ranks - 1) / ranks * ranks : grid.workers * ranks;
}

/* Equal jobs whose units, with checkpoints, an int holds in sum. */
static int are_equal(fkdai_prefill_jobs of, fkdai_prefill_stops stops)
{
    const int64_t most = (of.tokens / of.N / CHUNK + 1) * FKDAI_MOST_UNITS + FKDAI_JOB_COST + FKDAI_QUAD_JOB_COST;
    return !of.is_packed && stops.per_sequence == 0 && of.N * of.H <= INT32_MAX / most;
}

fkdai_prefill_schedule fkdai_prefill_who_schedules(fkdai_prefill_jobs of, fkdai_prefill_grid grid, fkdai_prefill_stops stops)
{
    if (of.N * of.H == grid.workers) return FKDAI_SCHEDULE_NONE;
    if (are_equal(of, stops)) return FKDAI_SCHEDULE_EQUAL;
    return of.N <= FKDAI_MOST_OWN_SEQUENCES ? FKDAI_SCHEDULE_OWN : FKDAI_SCHEDULE_ONCE;
}

static size_t take(size_t *used, size_t bytes)
{
    const size_t at = *used;
    *used += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return at;
}

fkdai_prefill_layout fkdai_prefill_make_layout(int64_t N, fkdai_prefill_grid grid, fkdai_prefill_schedule schedule, fkdai_prefill_stops stops)
{
    fkdai_prefill_layout l = {0};
    const size_t workers = (size_t)grid.workers, sequences = (size_t)N;
    l.relay = take(&l.bytes, workers * preparers_of(grid.mapping) * FKDAI_RELAY_BYTES);
    const int singles = fkdai_prefill_singles(grid), clusters = fkdai_prefill_clusters(grid);
    const size_t most = (size_t)(singles > clusters ? singles : clusters);
    l.parked = take(&l.bytes, may_fall_inside_a_chunk(stops) ? most * WIDTH * WIDTH * sizeof(float) : 0);
    if (schedule == FKDAI_SCHEDULE_NONE) return l;
    const size_t schedules = schedule == FKDAI_SCHEDULE_OWN ? (size_t)fkdai_prefill_blocks(grid) : 1;
    l.state = take(&l.bytes, most * WIDTH * WIDTH * sizeof(float));
    l.is_ready = take(&l.bytes, most * HALVES * sizeof(uint64_t));
    l.cut = l.bytes;
    if (schedule == FKDAI_SCHEDULE_EQUAL) return l;
    l.cut = take(&l.bytes, schedules * FKDAI_CUT_BYTES);
    l.prefix = take(&l.bytes, schedules * (sequences + 1) * sizeof(int32_t));
    l.sequence = take(&l.bytes, schedules * sequences * 2 * sizeof(int32_t));
    l.marks = take(&l.bytes, stops.every > 0 ? schedules * sequences * sizeof(int32_t) : 0);
    return l;
}

size_t fkdai_prefill_workspace_bytes(fkdai_prefill_jobs of, fkdai_prefill_grid grid, fkdai_prefill_stops stops)
{
    const size_t first = fkdai_prefill_make_layout(of.N, grid, fkdai_prefill_who_schedules(of, grid, stops), stops).bytes;
    if (grid.quads == 0) return first;
    const fkdai_prefill_grid second = fkdai_prefill_quads(grid);
    return first + fkdai_prefill_make_layout(of.N, second, fkdai_prefill_who_schedules(of, second, stops), stops).bytes;
}
