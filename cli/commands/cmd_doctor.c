/* flashkda doctor: does what is installed fit together? Other versions of library and header, backends that are off and could be on. */
#include <cjson/cJSON.h>
#include <dlfcn.h>
#include <glob.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "json_out.h"
#include "text.h"

static int as_json;
static const option options[] = {{.name = "--json", .help = "print one JSON object instead of text", .kind = OPTION_FLAG, .to = &as_json}};

enum { TEXT_BYTES = 1024, VERSION_BYTES = 40 };
static const char reinstall[] = "build and install library, header and command line from one source tree";

/* ---------------------------------------------------------------- what was found */

typedef enum state { STATE_OK, STATE_NOTE, STATE_WRONG } state;
static const char *const state_names[] = {"ok", "note", "wrong"};

typedef struct report {
    cJSON *checks;    /* NULL: text is printed at once */
    int wrong;
} report;

__attribute__((format(printf, 5, 6)))
static void say(report *r, const char *name, state is, const char *suggestion, const char *format, ...)
{
    char text[TEXT_BYTES], printable[4 * TEXT_BYTES];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    r->wrong += is == STATE_WRONG;
    if (r->checks == NULL) {
        printf("%-5s  %-13s %s\n", state_names[is], name, text_printable(text, printable, sizeof printable));
        if (is != STATE_OK) printf("%20s -> %s\n", "", suggestion);
        return;
    }
    cJSON *const check = cJSON_CreateObject();
    cJSON_AddStringToObject(check, "name", name);
    cJSON_AddStringToObject(check, "state", state_names[is]);
    json_add_text(check, "text", text);
    cJSON_AddStringToObject(check, "suggestion", is == STATE_OK ? "" : suggestion);
    cJSON_AddItemToArray(r->checks, check);
}

static void compare(report *r, const char *name, const char *file, const char *version)
{
    const char *const loaded = fkda_version_string();
    if (strcmp(version, loaded) == 0) say(r, name, STATE_OK, "", "%s, %s", version, file);
    else say(r, name, STATE_WRONG, reinstall, "%s is version %s, but the library that is loaded is %s", file, version, loaded);
}

/* ---------------------------------------------------------------- folders */

enum { MOST_FILES = 32 };
typedef void look_at(report *to, const char *file);

/* Calls `look` with every file that matches folder/pattern, links followed, each file once. */
typedef struct search {
    report *to;
    const char *pattern;
    look_at *look;
    char seen[MOST_FILES][PATH_MAX];
    int count;
} search;

static void look_in(search *s, const char *folder)
{
    glob_t found;
    char pattern[PATH_MAX], file[PATH_MAX];
    if (*folder == 0 || snprintf(pattern, sizeof pattern, "%s/%s", folder, s->pattern) >= (int)sizeof pattern) return;
    if (glob(pattern, 0, NULL, &found) != 0) return;
    for (size_t i = 0; i < found.gl_pathc; ++i) {
        int is_new = realpath(found.gl_pathv[i], file) != NULL && s->count < MOST_FILES;
        for (int j = 0; j < s->count && is_new; ++j) is_new = strcmp(s->seen[j], file) != 0;
        if (!is_new) continue;
        strcpy(s->seen[s->count++], file);
        s->look(s->to, file);
    }
    globfree(&found);
}

static void look_in_list(search *s, const char *variable)
{
    char list[TEXT_BYTES * 4], *rest = list;
    const char *const value = getenv(variable);
    snprintf(list, sizeof list, "%s", value == NULL ? "" : value);
    for (char *folder; (folder = strsep(&rest, ":")) != NULL;) look_in(s, folder);
}

static void look_everywhere(report *r, const char *variable, const char *const *folders, const char *pattern, look_at *look)
{
    static search s;    /* too large for a stack */
    s = (search){.to = r, .pattern = pattern, .look = look};
    look_in_list(&s, variable);
    for (; *folders != NULL; ++folders) look_in(&s, *folders);
}

/* ---------------------------------------------------------------- versions */

static void look_at_library(report *r, const char *file)
{
    const char *(*version_string)(void) = NULL;
    void *const library = dlopen(file, RTLD_LAZY | RTLD_LOCAL);
    if (library != NULL) *(void **)&version_string = dlsym(library, "fkda_version_string");
    if (version_string != NULL) compare(r, "library", file, version_string());
    else say(r, "library", STATE_WRONG, "remove it, or put the right one there", "%s is no library of flashkda: %s", file, dlerror());
    if (library != NULL) dlclose(library);
}

/* "0.1.0" from the three defines. */
static void read_header(const char *file, char *version)
{
    static const char *const parts[] = {"MAJOR", "MINOR", "PATCH"};
    char line[TEXT_BYTES];
    int numbers[3] = {-1, -1, -1};
    FILE *const from = fopen(file, "r");
    while (from != NULL && fgets(line, sizeof line, from) != NULL)
        for (int i = 0; i < 3; ++i) {
            char wanted[64];
            const int length = snprintf(wanted, sizeof wanted, "#define FKDA_VERSION_%s ", parts[i]);
            if (strncmp(line, wanted, (size_t)length) == 0) numbers[i] = atoi(line + length);
        }
    if (from != NULL) fclose(from);
    if (numbers[0] < 0 || numbers[1] < 0 || numbers[2] < 0) snprintf(version, VERSION_BYTES, "unreadable");
    else snprintf(version, VERSION_BYTES, "%d.%d.%d", numbers[0], numbers[1], numbers[2]);
}

static void look_at_header(report *r, const char *file)
{
    char version[VERSION_BYTES];
    read_header(file, version);
    compare(r, "header", file, version);
}

static void check_versions(report *r)
{
    static const char *const library_folders[] = {"/usr/local/lib", "/usr/local/lib64", "/usr/lib", "/usr/lib64", "/usr/lib/*-linux-gnu",
                                                  "/usr/local/lib/*-linux-gnu", NULL};
    static const char *const header_folders[] = {"/usr/local/include", "/usr/include", NULL};
    Dl_info loaded;
    char own[VERSION_BYTES];
    const int is_known = dladdr((void *)(uintptr_t)fkda_version, &loaded) != 0 && loaded.dli_fname != NULL;
    const char *const file = is_known ? loaded.dli_fname : "the program";
    say(r, "loaded", STATE_OK, "", "flashkda %s, %s; %s", fkda_version_string(), file, fkda_build_info());
    snprintf(own, sizeof own, "%d.%d.%d", FKDA_VERSION_MAJOR, FKDA_VERSION_MINOR, FKDA_VERSION_PATCH);
    if (strcmp(own, fkda_version_string()) != 0)
        say(r, "command line", STATE_WRONG, "look at LD_LIBRARY_PATH, or install both from one source tree",
            "it was compiled with flashkda.h %s, but the library that is loaded is %s", own, fkda_version_string());
    look_everywhere(r, "LD_LIBRARY_PATH", library_folders, "libflashkda.so*", look_at_library);
    look_everywhere(r, "CPATH", header_folders, "flashkda.h", look_at_header);
}

/* ---------------------------------------------------------------- backends */

static int has_gpu(void)
{
    glob_t found;
    const int is_there = glob("/dev/nvidia[0-9]*", 0, NULL, &found) == 0 || glob("/dev/dxg", 0, NULL, &found) == 0;
    globfree(&found);
    return is_there;
}

static const char *cuda_suggestion(fkda_status status)
{
    switch (status) {
    case FKDA_ERR_UNSUPPORTED: return "install a CUDA toolkit of 12.9 or later and build again";
    case FKDA_ERR_DRIVER: return "update the driver";
    case FKDA_ERR_ARCH: return "this GPU has no kernels: use the CPU backend";
    default: return "look at nvidia-smi and CUDA_VISIBLE_DEVICES";
    }
}

static void check_backends(report *r)
{
    for (int b = FKDA_BACKEND_CUDA; b < FKDA_BACKEND_COUNT; ++b) {
        char name[32], text[TEXT_BYTES / 2] = "";
        const fkda_status status = fkda_backend_status((fkda_backend)b, text, sizeof text);
        const int is_missed = status != FKDA_OK && (b != FKDA_BACKEND_CUDA || has_gpu());
        snprintf(name, sizeof name, "backend %s", fkda_backend_name((fkda_backend)b));
        say(r, name, is_missed ? STATE_WRONG : STATE_OK, b == FKDA_BACKEND_CUDA ? cuda_suggestion(status) : "unset FKDA_CPU_ISA", "%s: %s",
            status == FKDA_OK ? "on" : "off", text);
    }
    const char *const isa = getenv("FKDA_CPU_ISA");
    if (isa != NULL && *isa != 0 && fkda_backend_status(FKDA_BACKEND_CPU, NULL, 0) == FKDA_OK)
        say(r, "environment", STATE_NOTE, "unset it but for tests", "FKDA_CPU_ISA=%.64s chooses the instructions of the CPU backend", isa);
}

/* ---------------------------------------------------------------- the command */

static cli_exit doctor(void)
{
    report r = {.checks = as_json ? cJSON_CreateArray() : NULL};
    check_versions(&r);
    check_backends(&r);
    if (as_json) {
        cJSON *const line = cJSON_CreateObject();
        cJSON_AddStringToObject(line, "version", fkda_version_string());
        cJSON_AddBoolToObject(line, "ok", r.wrong == 0);
        cJSON_AddItemToObject(line, "checks", r.checks);
        json_print_line(line);
    } else if (r.wrong == 0) {
        puts("nothing is wrong");
    } else {
        printf("%d thing%s wrong\n", r.wrong, r.wrong > 1 ? "s are" : " is");
    }
    return r.wrong == 0 ? CLI_OK : CLI_VERIFY_FAILED;
}

const command command_doctor = {
    .name = "doctor",
    .summary = "looks whether what is installed fits together",
    .usage = "[--json]",
    .about = "Looks for libraries and headers of flashkda of another version (LD_LIBRARY_PATH, CPATH, /usr, /usr/local), and for\n"
             "backends that are off on a machine where they could run. Prints one line for each thing that was looked at, with a\n"
             "suggestion below those that are not well; exits with 1 if one is wrong.\n"
             "python -m flash_kda doctor also looks at PyTorch and flash-linear-attention.\n",
    .examples = "  flashkda doctor\n  flashkda doctor --json\n",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = doctor,
};
