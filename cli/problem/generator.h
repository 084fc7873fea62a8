/* Random numbers by place: element i of a stream depends on seed, stream and i alone, so any part can be made in any order. */
#ifndef CLI_GENERATOR_H
#define CLI_GENERATOR_H

#include <stdint.h>

typedef struct generator { uint64_t seed, stream; } generator;

/* Uniform in (0,1). */
double generator_uniform(const generator *g, int64_t i);

/* Two independent normals, elements 2*pair and 2*pair + 1. */
void generator_normal_pair(const generator *g, int64_t pair, float normals[2]);

#endif
