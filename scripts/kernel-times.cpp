// Sums the time of a process's CUDA kernels, copies and fills by name. CUDA loads it into any program.
//
//   g++ -O2 -shared -fPIC -I$CUDA/include scripts/kernel-times.cpp -o kernel-times.so -L$CUDA/lib64 -lcupti
//   CUDA_INJECTION64_PATH=$PWD/kernel-times.so KERNEL_TIMES=times.tsv [KERNEL_TIMES_BETWEEN=adam] PROGRAM ..
//
// cupti.h and libcupti are part of CUDA's toolkit, and of nvidia-cuda-cupti on PyPI. KERNEL_TIMES_BETWEEN
// counts only what lies between the ends of the first and the last kernel with this word in its name: with
// the optimiser's, whole steps without the start. The first line of the file has the sums, and `between` is
// `no` if no kernel has the word; the others have milliseconds, number, share and name.
#include <cupti.h>
#include <cxxabi.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

struct Run {
    const std::string* name;
    uint64_t start, end;
};
struct Sum {
    uint64_t number = 0, ns = 0;
};

// Never freed: CUPTI may call until the process ends.
static auto& names = *new std::map<std::string, std::string>; // by mangled name
static auto& runs = *new std::vector<Run>;
static std::mutex& lock = *new std::mutex;

static const std::string* readable(const std::string& mangled) {
    auto [entry, is_new] = names.try_emplace(mangled);
    if (is_new) {
        int status = 0;
        char* text = abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status);
        entry->second = status == 0 ? text : mangled;
        free(text);
    }
    return &entry->second;
}

static void CUPTIAPI request(uint8_t** buffer, size_t* size, size_t* records) {
    *size = 8 << 20;
    *buffer = static_cast<uint8_t*>(aligned_alloc(8, *size));
    *records = 0;
}

static void CUPTIAPI complete(CUcontext, uint32_t, uint8_t* buffer, size_t, size_t valid) {
    std::lock_guard<std::mutex> guard(lock);
    CUpti_Activity* record = nullptr;
    while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) {
        if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
            auto* kernel = reinterpret_cast<CUpti_ActivityKernel10*>(record);
            runs.push_back({readable(kernel->name), kernel->start, kernel->end});
        } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
            auto* copy = reinterpret_cast<CUpti_ActivityMemcpy6*>(record);
            const bool up = copy->copyKind == CUPTI_ACTIVITY_MEMCPY_KIND_HTOD;
            const bool down = copy->copyKind == CUPTI_ACTIVITY_MEMCPY_KIND_DTOH;
            const char* kind = up ? "copy to the device" : down ? "copy to the host" : "copy within devices";
            runs.push_back({readable(kind), copy->start, copy->end});
        } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
            auto* fill = reinterpret_cast<CUpti_ActivityMemset4*>(record);
            runs.push_back({readable("fill"), fill->start, fill->end});
        }
    }
    free(buffer);
}

static bool has(const std::string& name, const std::string& word) {
    auto same = [](unsigned char a, unsigned char b) { return std::tolower(a) == std::tolower(b); };
    return std::search(name.begin(), name.end(), word.begin(), word.end(), same) != name.end();
}

static void report() {
    cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
    std::lock_guard<std::mutex> guard(lock);
    const char* path = getenv("KERNEL_TIMES");
    FILE* out = path ? fopen(path, "w") : stderr;
    if (!out || runs.empty()) return;
    std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.start < b.start; });
    uint64_t from = 0, to = ~0ull;
    bool between = false;
    if (const char* word = getenv("KERNEL_TIMES_BETWEEN")) {
        for (const Run& run : runs) {
            if (!has(*run.name, word)) continue;
            if (!between) from = run.end;
            to = run.end;
            between = true;
        }
    }
    std::map<const std::string*, Sum> sums;
    uint64_t number = 0, total = 0, busy = 0, busy_until = 0, first = ~0ull, last = 0;
    for (const Run& run : runs) {
        if (run.start < from || run.end > to) continue;
        Sum& sum = sums[run.name];
        sum.number++;
        sum.ns += run.end - run.start;
        number++;
        total += run.end - run.start;
        // Streams overlap: the time in which anything runs.
        busy += run.end > busy_until ? run.end - std::max(run.start, busy_until) : 0;
        busy_until = std::max(busy_until, run.end);
        first = std::min(first, run.start);
        last = std::max(last, run.end);
    }
    if (between) first = from;
    if (number == 0) first = last = 0;
    std::vector<std::pair<const std::string*, Sum>> rows(sums.begin(), sums.end());
    std::sort(rows.begin(), rows.end(), [](auto& a, auto& b) { return a.second.ns > b.second.ns; });
    fprintf(out, "launches\t%llu\tkernel_ms\t%.2f\t", (unsigned long long)number, total / 1e6);
    fprintf(out, "busy_ms\t%.2f\tspan_ms\t%.2f\t", busy / 1e6, (last - first) / 1e6);
    fprintf(out, "between\t%s\n", between ? "yes" : "no");
    for (auto& [name, sum] : rows) {
        const double share = 100.0 * sum.ns / total;
        const unsigned long long launches = sum.number;
        fprintf(out, "%.3f\t%llu\t%.2f%%\t%s\n", sum.ns / 1e6, launches, share, name->c_str());
    }
    if (path) fclose(out);
}

extern "C" int InitializeInjection(void) {
    cuptiActivityRegisterCallbacks(request, complete);
    cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
    cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY);
    cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMSET);
    atexit(report);
    return 1;
}
