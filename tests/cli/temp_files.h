/* Files for the suites of the command line: in a folder of their own, gone when the suite ends. */
#ifndef FKDA_TEST_TEMP_FILES_H
#define FKDA_TEST_TEMP_FILES_H

#include <stddef.h>
#include <stdint.h>

int temp_setup(void **state);       /* group setup and teardown for cmocka */
int temp_teardown(void **state);

const char *temp_folder(void);
const char *temp_path(const char *name);    /* valid until the next call but three */

/* A file with these bytes; returns its path. */
const char *temp_file(const char *name, const void *bytes, size_t count);

/* A safetensors file: header length (or `claimed`, if it is not 0), header text, data_bytes bytes that count up. */
const char *temp_safetensors(const char *name, const char *header, size_t header_bytes, uint64_t claimed, size_t data_bytes);

int temp_entry_count(void);         /* entries of the folder: what a writer left behind */

#endif
