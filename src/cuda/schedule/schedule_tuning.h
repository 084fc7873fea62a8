/*
 * The numbers of a schedule that were found by measuring, on an H200 with tests/gpu/prefill_time. C and C++.
 */
#ifndef FKDAI_SCHEDULE_TUNING_H
#define FKDAI_SCHEDULE_TUNING_H

enum {
    /* What a job costs beside its chunks (state in and out, pipeline fill), and the smallest piece worth cutting off; chunks. */
    FKDAI_JOB_COST = 2,
    /* And what a checkpoint of its state costs, at a border of chunks and inside a chunk. */
    FKDAI_BORDER_COST = 1,
    FKDAI_FORK_COST = 4,
    FKDAI_SMALLEST_PIECE = 4,
    /* No measure: units a chunk that a job counts at most, with checkpoints, so that sums of them fit. */
    FKDAI_MOST_UNITS = 16
};

#endif
