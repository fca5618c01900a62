// NCCL groups. NCCL is in libtorch's CUDA part, which nothing links to and which is loaded at run time, so its
// constructors are found by name. Everything else is a virtual function of c10d::Backend.

#include <dlfcn.h>

#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include "group.hpp"

namespace {

// More than the sizes of c10d::ProcessGroupNCCL (1112 bytes in libtorch 2.11 on x86-64) and its Options (248);
// their exact sizes need the headers of NCCL and CUDA.
constexpr size_t kGroupBytes = 8192;
constexpr size_t kOptionsBytes = 2048;

using MakeOptions = void (*)(void* self, bool high_priority);
using MakeGroup = void (*)(
    void* self, c10::intrusive_ptr<c10d::Store> store, int rank, int world,
    c10::intrusive_ptr<c10d::Backend::Options> options);

constexpr const char* kMakeOptions = "_ZN4c10d16ProcessGroupNCCL7OptionsC1Eb";
constexpr const char* kMakeGroup =
    "_ZN4c10d16ProcessGroupNCCLC1EN3c1013intrusive_ptrINS_5StoreENS1_6detail34intrusive_target_default_null_type"
    "IS3_EEEEiiNS2_INS0_7OptionsENS5_IS8_EEEE";

template <typename Function>
Function found(const char* name) {
  auto function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
  if (!function) {
    throw std::runtime_error("this libtorch has no NCCL");
  }
  return function;
}

// Constructs an object in memory that its own destructor frees.
template <typename Base, typename Construct>
c10::intrusive_ptr<Base> made(size_t bytes, Construct construct) {
  void* memory = ::operator new(bytes);
  std::memset(memory, 0, bytes);
  try {
    construct(memory);
  } catch (...) {
    ::operator delete(memory);
    throw;
  }
  return c10::intrusive_ptr<Base>::unsafe_steal_from_new(static_cast<Base*>(memory));
}

} // namespace

extern "C" {

// Joins an NCCL group of `world` processes that meet in the store. The processes connect in their first
// operation.
char* pcrm_group_join_nccl(Store* store, int rank, int world, int64_t timeout_ms, Group** group) {
  return guarded([&] {
    // By default a watchdog ends the whole process when an operation fails, before the process can say why. Every
    // operation is waited for here, with a timeout, and fails there.
    setenv("TORCH_NCCL_BLOCKING_WAIT", "1", /*overwrite=*/0);
    auto make_options = found<MakeOptions>(kMakeOptions);
    auto make_group = found<MakeGroup>(kMakeGroup);
    Milliseconds timeout(timeout_ms);
    auto options =
        made<c10d::Backend::Options>(kOptionsBytes, [&](void* memory) { make_options(memory, false); });
    // The watchdog's own timeout, for those who turn it on. Waiting for an operation reports earlier.
    options->timeout = 2 * timeout + std::chrono::minutes(1);
    // Gloo's group has keys of the same names.
    c10::intrusive_ptr<c10d::Store> keys = c10::make_intrusive<c10d::PrefixStore>("nccl", store->store);
    auto nccl = made<c10d::Backend>(
        kGroupBytes, [&](void* memory) { make_group(memory, keys, rank, world, options); });
    *group = new Group{std::move(nccl), timeout, /*is_nccl=*/true};
  });
}

// Ends the operations of a group, also those that wait for a process that is gone.
void pcrm_group_abort(Group* group) {
  guarded([&] { group->group->abort(); });
}
}
