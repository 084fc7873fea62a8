/* Asks the backends in order; collects their refusals into one sentence. */
#include "plan.h"

#include <stdio.h>
#include <string.h>

#include "status.h"

const fkdai_backend_entry *fkdai_find_backend(fkda_backend id)
{
    const fkdai_backend_entry *entry = fkdai_backends;
    while (entry->id != id && entry->id != FKDA_BACKEND_AUTO) ++entry;
    return entry;
}

/* What is asked of a backend: to take the desc as it lies, or (copies is not NULL) to say what it takes as a copy. */
typedef struct question {
    const void *args;
    uint32_t *copies;
} question;

/* The size that a caller is told can be given to aligned_alloc as it is. */
static size_t whole_alignments(size_t bytes) { return (bytes + FKDA_WORKSPACE_ALIGN - 1) / FKDA_WORKSPACE_ALIGN * FKDA_WORKSPACE_ALIGN; }

/* A refusal leaves plan->desc and *copies as they were. */
static fkda_status ask_to_suit(const fkdai_offer *offer, const question *asked, fkdai_plan *plan)
{
    const fkdai_desc as_it_lies = plan->desc;
    uint32_t copies = *asked->copies;
    const fkda_status status = offer->suit(plan, asked->args, &copies);
    if (status == FKDA_OK) *asked->copies = copies;
    else plan->desc = as_it_lies;
    return status;
}

static fkda_status ask(const fkdai_backend_entry *entry, const question *asked, fkdai_plan *plan)
{
    const fkdai_offer *const offer = &entry->backend->offers[plan->operation->id];
    REQUIRE(offer->plan != NULL, FKDA_ERR_UNSUPPORTED, "fkda_%s is not offered by this backend", plan->operation->name);
    plan->backend = entry;
    TRY(asked->copies != NULL && offer->suit != NULL ? ask_to_suit(offer, asked, plan) : offer->plan(plan));
    const size_t to_check = plan->operation->check_bytes == NULL ? 0 : (size_t)plan->operation->check_bytes(&plan->desc);
    plan->workspace_bytes = whole_alignments(plan->workspace_bytes > to_check ? plan->workspace_bytes : to_check);
    return FKDA_OK;
}

static void measure(fkdai_plan *plan)
{
    fkdai_extent extents[FKDAI_MAX_ARGUMENTS];
    plan->operation->measure(&plan->desc, extents);
    for (int i = 0; i < plan->operation->argument_count; ++i)
        plan->extents.bytes[i] = extents[i].bytes, plan->extents.align[i] = (uint8_t)extents[i].align;
}

/* The first backend that accepts. BAD_VALUE is no refusal of this problem: the environment of the process has a word that nobody knows. */
static fkda_status ask_all(const question *asked, fkdai_plan *plan)
{
    char reasons[FKDAI_SENTENCE_BYTES], last_reason[sizeof plan->fallback] = "";
    size_t used = 0;
    for (const fkdai_backend_entry *entry = fkdai_backends; entry->id != FKDA_BACKEND_AUTO; ++entry) {
        if (entry->backend == NULL) continue;
        const fkda_status status = ask(entry, asked, plan);
        if (status == FKDA_OK) {
            if (entry->id == FKDA_BACKEND_REF) memcpy(plan->fallback, last_reason, sizeof last_reason);
            return FKDA_OK;
        }
        if (status == FKDA_ERR_BAD_VALUE) return status;
        snprintf(last_reason, sizeof last_reason, "%s: %.100s", entry->name, fkda_last_error());
        if (used < sizeof reasons)
            used += (size_t)snprintf(reasons + used, sizeof reasons - used, "%s%s: %s", used ? "; " : "", entry->name, fkda_last_error());
    }
    return fkdai_fail(FKDA_ERR_UNSUPPORTED, "%s", reasons);
}

/* Refusals on the way to an answer are no failure: the sentence stays what it was. */
static fkda_status choose(const question *asked, fkdai_plan *plan)
{
    const fkda_backend named = plan->desc.head.backend;
    char before[FKDAI_SENTENCE_BYTES];
    memcpy(before, fkda_last_error(), strlen(fkda_last_error()) + 1);
    TRY(named == FKDA_BACKEND_AUTO ? ask_all(asked, plan) : ask(fkdai_find_backend(named), asked, plan));
    plan->magic = FKDAI_PLAN_MAGIC;
    return strcmp(before, fkda_last_error()) == 0 ? FKDA_OK : fkdai_fail(FKDA_OK, "%s", before);
}

static fkda_status check_build(const fkdai_head *h)
{
    const int wants_cuda = h->memory == FKDA_MEMORY_CUDA || h->backend == FKDA_BACKEND_CUDA;
    REQUIRE(!wants_cuda || fkdai_find_backend(FKDA_BACKEND_CUDA)->backend != NULL, FKDA_ERR_UNSUPPORTED, FKDAI_NO_CUDA ", but %s",
            h->memory == FKDA_MEMORY_CUDA ? "the tensors are in CUDA memory" : "desc.backend = FKDA_BACKEND_CUDA");
    return FKDA_OK;
}

static fkda_status begin(const fkdai_operation *operation, const void *desc, fkdai_plan *plan)
{
    memset(plan, 0, offsetof(fkdai_plan, desc));
    plan->operation = operation;
    TRY(fkdai_resolve(operation, desc, &plan->desc));
    return check_build(&plan->desc.head);
}

/* ---------------------------------------------------------------- plans that are kept */

/* The last fixed plan that this thread made: calls come again with the same desc. */
static _Thread_local struct {
    fkdai_desc asked;    /* as the caller gave it, byte for byte */
    fkdai_plan plan;     /* without its magic until there is one */
} kept;

static int is_kept(const fkdai_operation *operation, const void *desc)
{
    return kept.plan.magic == FKDAI_PLAN_MAGIC && kept.plan.operation == operation && desc != NULL &&
           memcmp(desc, &kept.asked, sizeof kept.asked.head.struct_size) == 0 && memcmp(desc, &kept.asked, kept.asked.head.struct_size) == 0;
}

static void keep(const fkdai_operation *operation, const void *desc, const fkdai_plan *plan)
{
    const size_t today = operation->desc.sizes[operation->desc.count - 1];
    if (!plan->backend->backend->has_fixed_plans || memcmp(desc, &today, sizeof today) != 0) return;
    memcpy(&kept.asked, desc, today);
    kept.plan = *plan;
}

fkda_status fkdai_make_plan(const fkdai_operation *operation, const void *desc, fkdai_plan *plan)
{
    const question as_it_lies = {.copies = NULL};
    if (is_kept(operation, desc)) {
        *plan = kept.plan;
        return FKDA_OK;
    }
    TRY(begin(operation, desc, plan));
    TRY(operation->refuse(&plan->desc));
    TRY(choose(&as_it_lies, plan));
    measure(plan);
    keep(operation, desc, plan);
    return FKDA_OK;
}

fkda_status fkdai_make_suited_plan(const fkdai_operation *operation, const void *desc, const void *args, fkdai_plan *plan, uint32_t *copies)
{
    const question as_it_lies = {.copies = NULL}, with_copies = {args, copies};
    char before[FKDAI_SENTENCE_BYTES];
    *copies = 0;
    TRY(begin(operation, desc, plan));
    memcpy(before, fkda_last_error(), strlen(fkda_last_error()) + 1);
    TRY(operation->suit(&plan->desc, args, copies));
    TRY(operation->refuse(&plan->desc));
    if (choose(&as_it_lies, plan) == FKDA_OK) TRY(ask(plan->backend, &with_copies, plan));    /* its addresses may still need a copy */
    else TRY(choose(&with_copies, plan));
    return fkdai_fail(FKDA_OK, "%s", before);
}
