/* The CPU, for people: its name, what it offers, and how many cores this process may use. */
#ifndef CLI_CPU_FACTS_H
#define CLI_CPU_FACTS_H

#include <stddef.h>
#include <stdio.h>

/* From the text of /proc/cpuinfo: the model's name, or, where the kernel has none (aarch64), the numbers of maker and core. NULL: unknown. */
void cpu_read_model(FILE *cpuinfo, char *text, size_t size);
void cpu_list_features(char *text, size_t size);    /* as far as a backend may care; words with a space between, or "" */
int cpu_count_cores(void);                          /* a container makes them fewer than the machine has */

#endif
