// libtorch's c10d behind C functions: a key-value store that all processes reach, and their Gloo group.
//
// Every function returns nullptr on success, or an error message that the caller frees with pcrm_text_free.
// Tensors are torch-sys tensors (at::Tensor*).

#include <fcntl.h>

#include <stdexcept>
#include <string>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "group.hpp"

namespace {

using Clock = std::chrono::steady_clock;

// An operation under way. It keeps its tensors by itself.
struct Pending {
  Clock::time_point started;
  c10::intrusive_ptr<c10d::Work> work;
  Milliseconds timeout;
  bool is_nccl;
};

void finished(const Pending& pending) {
  Milliseconds timeout = pending.timeout;
  if (pending.is_nccl) {
    // NCCL counts it from the start of the operation, and a process may start one long before the last comes to it.
    timeout += std::chrono::duration_cast<Milliseconds>(Clock::now() - pending.started);
  }
  if (!pending.work->wait(timeout)) {
    throw std::runtime_error("the operation was not completed");
  }
}

} // namespace

extern "C" {

void pcrm_text_free(char* message) { std::free(message); }

// Opens the store at host:port, as its server or as a client that retries until the timeout; every key gets
// the prefix. A server takes over a listening socket, or listens by itself if it is -1.
char* pcrm_store_open(
    const char* host, uint16_t port, bool serves, int socket, const char* prefix, int64_t timeout_ms,
    Store** store) {
  return guarded([&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = serves;
    if (socket >= 0) {
      // Programs that this process starts do not inherit it.
      fcntl(socket, F_SETFD, FD_CLOEXEC);
      options.masterListenFd = socket;
    }
    options.waitWorkers = false;
    options.timeout = Milliseconds(timeout_ms);
    auto tcp = c10::make_intrusive<c10d::TCPStore>(std::string(host), options);
    *store = new Store{c10::make_intrusive<c10d::PrefixStore>(std::string(prefix), std::move(tcp))};
  });
}

void pcrm_store_free(Store* store) {
  guarded([&] { delete store; });
}

char* pcrm_store_set(Store* store, const char* key, const uint8_t* value, size_t length) {
  return guarded([&] { store->store->set(key, std::vector<uint8_t>(value, value + length)); });
}

// Reads a key into `value`: a text to free with pcrm_text_free, or nullptr if the key is not set.
char* pcrm_store_get(Store* store, const char* key, char** value) {
  return guarded([&] {
    *value = nullptr;
    if (store->store->check({key})) {
      auto bytes = store->store->get(key);
      *value = text(std::string(bytes.begin(), bytes.end()).c_str());
    }
  });
}

// Joins a Gloo group of `world` processes that meet in the store. `address` is a host name or address of this
// machine to listen on, `interface` the name of a network interface; libtorch chooses where they are empty.
char* pcrm_group_join(
    Store* store, int rank, int world, const char* address, const char* interface, int64_t timeout_ms,
    Group** group) {
  return guarded([&] {
    using Gloo = c10d::ProcessGroupGloo;
    Milliseconds timeout(timeout_ms);
    auto options = Gloo::Options::create(timeout);
    if (*interface) {
      options->devices.push_back(Gloo::createDeviceForInterface(interface));
    } else if (*address) {
      options->devices.push_back(Gloo::createDeviceForHostname(address));
    } else {
      options->devices.push_back(Gloo::createDefaultDevice());
    }
    auto made = c10::make_intrusive<Gloo>(store->store, rank, world, options);
    *group = new Group{std::move(made), timeout, /*is_nccl=*/false};
  });
}

// Closes the connections to all other processes, whose operations then fail.
void pcrm_group_leave(Group* group) {
  guarded([&] { delete group; });
}

// Starts to split `in` into equal parts along its first dimension and to send part r to rank r; part r of `out`
// comes from rank r.
char* pcrm_group_start_all_to_all(Group* group, at::Tensor* out, at::Tensor* in, Pending** pending) {
  return guarded([&] {
    std::vector<int64_t> equal;
    auto started = Clock::now();
    auto work = group->group->alltoall_base(*out, *in, equal, equal);
    *pending = new Pending{started, std::move(work), group->timeout, group->is_nccl};
  });
}

// Waits until the operation is complete, at most for the group's timeout.
char* pcrm_pending_wait(Pending* pending) {
  return guarded([&] { finished(*pending); });
}

// Forgets the operation, which goes on if it is not complete.
void pcrm_pending_free(Pending* pending) {
  guarded([&] {
    if (pending->is_nccl && !pending->work->isCompleted()) {
      // NCCL still reads and writes the tensors, so they are kept for ever.
      (void)pending->work.release();
    }
    delete pending;
  });
}

// Gathers the `in` of every rank: part r of `out` comes from rank r.
char* pcrm_group_all_gather(Group* group, at::Tensor* out, at::Tensor* in) {
  return guarded([&] {
    auto started = Clock::now();
    finished({started, group->group->_allgather_base(*out, *in), group->timeout, group->is_nccl});
  });
}
}
