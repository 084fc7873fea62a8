/* JSON on standard output, one object a line. */
#ifndef CLI_JSON_OUT_H
#define CLI_JSON_OUT_H

struct cJSON;

/* A string that may hold anything: what is not UTF-8 becomes \xNN, as in every message. */
void json_add_text(struct cJSON *object, const char *key, const char *text);

/* A whole number below 2^53 as such, any other with seven digits; null for NaN and infinity, which JSON has no word for. */
void json_add_number(struct cJSON *object, const char *key, double value);

/* Prints the object and frees it. */
void json_print_line(struct cJSON *object);

#endif
