/* Bytes from outside (file names, headers) as text: what is valid UTF-8, and how to show what is not. */
#ifndef CLI_TEXT_H
#define CLI_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the UTF-8 character at text[0..left), 1 to 4; 0 if there is no valid one (overlong and surrogates included). */
size_t text_utf8_length(const char *text, size_t left);

/* Copies `text` for people: control characters and invalid UTF-8 become \xNN. Cuts to fit; returns `to`. */
const char *text_printable(const char *text, char *to, size_t size);

/* A number as people read it: 1234567 becomes "1,234,567", NaN "-". At most 32 bytes; returns `to`. */
enum { TEXT_NUMBER_BYTES = 32 };
const char *text_grouped(double value, char *to);

/* A time as people read it: "412 us", "3.21 ms", "1.05 s"; "-" for NaN. */
const char *text_duration(double ms, char *to);

/* The candidate that was probably meant by a mistyped `word`; NULL if none is near. NULL ends the list. */
const char *text_nearest(const char *word, const char *const *candidates);

/* A size as people read it: "412 bytes", "8.2 MiB", "1.5 GiB". */
const char *text_bytes(double bytes, char *to);

/* Reads the whole of `text` as a number: nothing before it, nothing behind it. 0 if it is not one or does not fit. */
int text_to_integer(const char *text, int64_t *value);
int text_to_real(const char *text, double *value);

#endif
