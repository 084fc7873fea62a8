/*
 * The numbers of the prefill kernel's launches that were found by measuring, not by reasoning, on an H200 (132 SMs) with
 * tests/gpu/prefill_time; docs/notebook has the tables. Those of any schedule are in schedule/schedule_tuning.h. C and C++.
 */
#ifndef FKDAI_PREFILL_TUNING_H
#define FKDAI_PREFILL_TUNING_H

/* Beside the portable kernel: in no case of cases.def (suites time and few) does that one take less time. */
#define FKDAI_PREFILL_PREFERRED "faster than prefill_mma in all that was measured"

enum {
    /* Time of a chunk in a worker of each kind, in 10 ns, where all SMs work. Only the ratio counts. */
    FKDAI_DUO_CHUNK_COST = 110,
    FKDAI_LONE_DUO_CHUNK_COST = 103,    /* in the kernel of plain calls with one job each */
    FKDAI_SOLO_CHUNK_COST = 198,
    FKDAI_QUAD_CHUNK_COST = 56,
    FKDAI_QUAD_JOB_COST = 7,            /* chunks, where other workers have FKDAI_JOB_COST */
    FKDAI_QUAD_START_COST = 800,        /* of quads with a schedule, and of the question */

    /* Sequences of so many tokens on average have their norms made by a warp of their own in solos, which gains 1 to 3 %; of half as many it loses as much,
     * where there is a schedule. */
#ifdef FKDA_EVERY_LANE_ARRIVES    /* built for racecheck, which follows few chunks */
    FKDAI_LONG_TOKENS = 30,
#else
    FKDAI_LONG_TOKENS = 512,
#endif

    /* What a schedule delays a call by, in the same unit. */
    FKDAI_SCHEDULE_COST = 500,

    /* Clusters of four that fit at once, as a fraction of the SMs: 30 on 132. GPCs have an odd number of SMs, so some stay alone. */
    FKDAI_QUADS_NUMERATOR = 5,
    FKDAI_QUADS_DENOMINATOR = 22,

    /* Clusters of six: 17 fit on 132, 16 are counted on. */
    FKDAI_SEXTETS_NUMERATOR = 4,
    FKDAI_SEXTETS_DENOMINATOR = 33,

    /* Clusters of five: 22 fit on 132, 20 are counted on. */
    FKDAI_QUINTS_NUMERATOR = 5,
    FKDAI_QUINTS_DENOMINATOR = 33,

    /* Clusters of eight, likewise: 15. */
    FKDAI_OCTETS_NUMERATOR = 5,
    FKDAI_OCTETS_DENOMINATOR = 44,

    /* A step of a quad takes half of a duo's: up to 1.5 jobs a quad end before one job a duo, if they are long enough to be cut; up to 1.8, if they
     * are longer. */
    FKDAI_QUAD_JOBS_NUMERATOR = 15,
    FKDAI_QUAD_MORE_JOBS_NUMERATOR = 18,
    FKDAI_QUAD_JOBS_DENOMINATOR = 10,
    FKDAI_QUAD_CUT_TOKENS = 2048,    /* mean length of a sequence from which cutting pays */
    FKDAI_QUAD_MORE_TOKENS = 4096,   /* and from which it does with more jobs */

    /* Packed sequences with so many tokens in sum may be done by quads, if one is long; not of more than so many, whose lengths the host would have to
     * look at for more than 1 us. */
    FKDAI_QUAD_LEAST_TOKENS = 2048,
    FKDAI_OPEN_SEQUENCES = 1024,

    /* The host knows the lengths, or the device is asked in two launches, which cost 4 us: of so many sequences at most, whose call would take so
     * long, in 10 ns, if they were equal. */
    FKDAI_ASKED_SEQUENCES = 32,
    FKDAI_ASKED_COST = 13000,

    /* Up to so many sequences every block makes the schedule for itself; above, one kernel makes it before. */
    FKDAI_MOST_OWN_SEQUENCES = 512
};

#endif
