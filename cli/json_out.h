/* JSON on standard output, one object a line. */
#ifndef CLI_JSON_OUT_H
#define CLI_JSON_OUT_H

struct cJSON;

/* A string that may hold anything: what is not UTF-8 becomes \xNN, as in every message. */
void json_add_text(struct cJSON *object, const char *key, const char *text);

/* A whole number below 2^53 as such, another one with the fewest digits, at most nine, that give the same fp32; null for NaN and infinity. */
void json_add_number(struct cJSON *object, const char *key, double value);

/* Prints the object and frees it. */
void json_print_line(struct cJSON *object);

#endif
