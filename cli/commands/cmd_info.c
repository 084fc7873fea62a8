/* flashkda info: what this build is, and what it would run on. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "cpu_facts.h"
#include "device.h"
#include "json_out.h"

static int as_json;
static const option options[] = {{.name = "--json", .help = "print one JSON object instead of text", .kind = OPTION_FLAG, .to = &as_json}};

enum { TEXT_BYTES = 512 };

static void print_text(const char *model, const char *features)
{
    printf("flashkda %s\n  build     %s\n", fkda_version_string(), fkda_build_info());
    for (int b = FKDA_BACKEND_CUDA; b < FKDA_BACKEND_COUNT; ++b) {
        char text[TEXT_BYTES] = "";
        const fkda_status status = fkda_backend_status((fkda_backend)b, text, sizeof text);
        printf("  %-8s  %-4s  %-3s  %s\n", b == FKDA_BACKEND_CUDA ? "backends" : "", fkda_backend_name((fkda_backend)b),
               status == FKDA_OK ? "on" : "off", text);
    }
    if (fkda_backend_status(FKDA_BACKEND_CUDA, NULL, 0) == FKDA_OK) {
        device_facts facts;
        device_look(&facts);
        printf("  gpu       %s, driver %s, SM clock %d MHz now\n", facts.gpu, facts.driver, facts.sm_mhz);
    }
    printf("  cpu       %s, %d cores for this process\n  features  %s\n", model, cpu_count_cores(), *features ? features : "none that matter here");
}

static void print_json(const char *model, const char *features)
{
    cJSON *const line = cJSON_CreateObject();
    cJSON_AddStringToObject(line, "version", fkda_version_string());
    cJSON_AddStringToObject(line, "build", fkda_build_info());
    cJSON *const backends = cJSON_AddObjectToObject(line, "backends");
    for (int b = FKDA_BACKEND_CUDA; b < FKDA_BACKEND_COUNT; ++b) {
        char text[TEXT_BYTES] = "";
        const fkda_status status = fkda_backend_status((fkda_backend)b, text, sizeof text);
        cJSON *const backend = cJSON_AddObjectToObject(backends, fkda_backend_name((fkda_backend)b));
        cJSON_AddBoolToObject(backend, "on", status == FKDA_OK);
        cJSON_AddStringToObject(backend, "status", fkda_status_name(status));
        json_add_text(backend, "text", text);
    }
    if (fkda_backend_status(FKDA_BACKEND_CUDA, NULL, 0) == FKDA_OK) {
        device_facts facts;
        device_look(&facts);
        cJSON *const gpu = cJSON_AddObjectToObject(line, "gpu");
        json_add_text(gpu, "name", facts.gpu);
        json_add_text(gpu, "driver", facts.driver);
        json_add_number(gpu, "sm_mhz", facts.sm_mhz);
        json_add_number(gpu, "memory_mhz", facts.memory_mhz);
    }
    cJSON *const cpu = cJSON_AddObjectToObject(line, "cpu");
    json_add_text(cpu, "model", model);
    json_add_number(cpu, "cores", cpu_count_cores());
    cJSON *const list = cJSON_AddArrayToObject(cpu, "features");
    char words[TEXT_BYTES], *rest = words;
    snprintf(words, sizeof words, "%s", features);
    for (char *word = strtok_r(rest, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) cJSON_AddItemToArray(list, cJSON_CreateString(word));
    json_print_line(line);
}

static cli_exit info(void)
{
    char model[TEXT_BYTES], features[TEXT_BYTES];
    FILE *const cpuinfo = fopen("/proc/cpuinfo", "r");
    cpu_read_model(cpuinfo, model, sizeof model);
    if (cpuinfo != NULL) fclose(cpuinfo);
    cpu_list_features(features, sizeof features);
    if (as_json) print_json(model, features);
    else print_text(model, features);
    return CLI_OK;
}

const command command_info = {
    .name = "info",
    .summary = "version, build, backends and why one is off, CPU",
    .usage = "[--json]",
    .about = "Prints version, build, each backend with what it runs on or why it is off, and the CPU.\n",
    .examples = "  flashkda info\n  flashkda info --json\n",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = info,
};
