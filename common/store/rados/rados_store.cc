// The RADOS back end: each call is one compound operation, asynchronous from end to end; listings
// and capacity, for which librados has no asynchronous form, run on two threads of their own.
//
// Every accepted call is answered exactly once, also when the store is destroyed.
#include "common/store/rados/rados_store.h"

#include <algorithm>
#include <mutex>

#include "common/store/hidden_names.h"
#include "common/store/object_compute.h"
#include "common/store/rados/rados_attributes.h"
#include "common/store/rados/rados_call.h"
#include "common/store/rados/rados_class.h"
#include "common/store/rados/rados_compute.h"
#include "common/store/rados/rados_operations.h"
#include "common/store/rados/rados_usage.h"

namespace datacloud {
namespace {

constexpr size_t kListNamesMax = 65536;  // per reply
constexpr size_t kListStepMax = 4096;    // per question to the OSDs

auto bad_name(const std::string& name) {
  return failure(Errc::invalid, "not an object name: " + name.substr(0, 200));
}

class RadosStore final : public ObjectStore {
 public:
  explicit RadosStore(RadosOptions options) : calls_(std::move(options)) {}
  ~RadosStore() override { calls_.session.close(); }

  void put(const std::string& name, Payload data, Attributes attributes, OpOptions,
           Callback<void> callback) override {
    const size_t size = data.size();
    if (auto valid = check_put(name, size, attributes); !valid) {
      return callback(failure(valid.error()));
    }
    auto call = RadosCall<void>::start(calls_, "put", name, size, std::move(callback));
    if (!call) return;
    call->enter([call, data = std::move(data), attributes = std::move(attributes)] {
      rados_create(call->pool(), call->name(), data, attributes,
                   [call](int rc) { rc < 0 ? call->fail(rc, Errc::io) : call->answer(success()); });
    });
  }

  void read(const std::string& name, std::vector<ByteRange> ranges, bool want_attributes, OpOptions,
            Callback<ReadReply> callback) override {
    if (!storable_object_name(name)) return callback(bad_name(name));
    if (ranges.size() > kRadosRangesMax) {
      return callback(failure(Errc::invalid, "read " + name + ": more than 16384 ranges"));
    }
    auto call = RadosCall<ReadReply>::start(calls_, "read", name, 0, std::move(callback));
    if (!call) return;
    call->enter([call, ranges = std::move(ranges), want_attributes]() mutable {
      rados_read(call->pool(), call->name(), std::move(ranges), want_attributes,
                 [call](int rc, result<ReadReply> reply) {
                   rc < 0 ? call->fail(rc) : call->answer(std::move(reply));
                 });
    });
  }

  void derive(const std::string& name, Derivation derivation, OpOptions,
              Callback<DeriveReply> callback) override {
    auto valid = check_put(name, derivation.size, {});
    if (valid && !valid_object_name(derivation.source))
      return callback(bad_name(derivation.source));
    if (valid) valid = check_derivation(derivation);
    if (!valid) return callback(failure(valid.error()));
    auto call =
        RadosCall<DeriveReply>::start(calls_, "derive", name, derivation.size, std::move(callback));
    if (!call) return;
    call->enter([call, derivation = std::move(derivation)]() mutable {
      rados_derive(call, std::move(derivation));
    });
  }

  void combine(const std::string& name, Combination combination, OpOptions,
               Callback<CombineReply> callback) override {
    if (!valid_object_name(name)) return callback(bad_name(name));
    if (auto valid = check_combination(combination); !valid) {
      return callback(failure(valid.error()));
    }
    auto call = RadosCall<CombineReply>::start(calls_, "combine", name, 0, std::move(callback));
    if (!call) return;
    call->enter([call, combination = std::move(combination)]() mutable {
      rados_combine(call, std::move(combination));
    });
  }

  void prove(const std::string& name, AuditChallenge challenge, OpOptions,
             Callback<AuditProof> callback) override {
    if (!valid_object_name(name)) return callback(bad_name(name));
    auto call = RadosCall<AuditProof>::start(calls_, "prove", name, 0, std::move(callback));
    if (!call) return;
    call->enter([call, challenge] { rados_prove(call, challenge); });
  }

  void remove(const std::string& name, OpOptions, Callback<void> callback) override {
    if (!storable_object_name(name)) return callback(bad_name(name));
    auto call = RadosCall<void>::start(calls_, "remove", name, 0, std::move(callback));
    if (!call) return;
    call->enter([call] {
      librados::ObjectWriteOperation op;
      op.remove();
      call->pool().write(call->name(), op,
                         [call](int rc) { rc < 0 ? call->fail(rc) : call->answer(success()); });
    });
  }

  void list(const std::string& from, size_t count_max, OpOptions options,
            Callback<ListReply> callback) override {
    if (count_max == 0) return callback(failure(Errc::invalid, "a listing of no names"));
    auto call = RadosCall<ListReply>::start(calls_, "list", "", 0, std::move(callback));
    if (!call) return;
    call->enter([this, call, from, count_max, deadline = options.deadline] {
      calls_.blocking.post([call, from, count = std::min(count_max, kListNamesMax), deadline] {
        list_names(*call, from, count, deadline);
      });
    });
  }

  void check(OpOptions, Callback<void> callback) override {
    auto call = RadosCall<void>::start(calls_, "check", "", 0, std::move(callback));
    if (!call) return;
    calls_.session.verify([call](auto pool) {
      pool ? call->answer(success()) : call->answer(failure(pool.error()));
    });
  }

  // Calls made while the monitors are asked already share that answer.
  void capacity(OpOptions, Callback<Capacity> callback) override {
    auto call = RadosCall<Capacity>::start(calls_, "capacity", "", 0, std::move(callback));
    if (!call) return;
    call->enter([this, call] {
      {
        std::lock_guard lock(mutex_);
        capacity_calls_.push_back(call);
        if (capacity_calls_.size() > 1) return;
      }
      probe_rados_class(call->shared_pool(), [this, call] {
        calls_.blocking.post([this, call] { answer_capacity(call->pool()); });
      });
    });
  }

  std::string location(const std::string& name) const override { return calls_.place(name); }

 private:
  static result<void> check_put(const std::string& name, size_t size,
                                const Attributes& attributes) {
    if (!storable_object_name(name) || name == kRadosMarkerName) return bad_name(name);
    if (size > kObjectBytesMax) return failure(Errc::invalid, "put " + name + ": above 64 MiB");
    return check_rados_attributes(attributes);
  }

  // `next` is librados' cursor as text: a place in the order of name hashes.
  static void list_names(RadosCall<ListReply>& call, const std::string& from, size_t count_max,
                         MonotonicTime deadline) {
    auto& io = call.pool().io();
    librados::ObjectCursor at = io.object_list_begin(), next;
    if (!from.empty() && !at.from_str(from)) {
      return call.answer(failure(Errc::invalid, "not a continuation of a listing"));
    }
    ListReply reply;
    while (reply.names.size() < count_max && !io.object_list_is_end(at)) {
      if (monotonic_now() > deadline) {
        return call.answer(failure(Errc::timed_out, "not complete at its deadline"));
      }
      std::vector<librados::ObjectItem> items;
      const size_t step = std::min(count_max - reply.names.size(), kListStepMax);
      const int rc = io.object_list(at, io.object_list_end(), step, {}, &items, &next);
      if (rc < 0) return call.fail(rc);
      for (auto& item : items) {
        const bool ours = item.locator.empty() && item.nspace == io.get_namespace() &&
                          item.oid != kRadosMarkerName && valid_object_name(item.oid);
        if (ours) reply.names.push_back(std::move(item.oid));
      }
      at = next;
    }
    if (!io.object_list_is_end(at)) reply.next = at.to_str();
    call.answer(std::move(reply));
  }

  void answer_capacity(RadosPool& pool) {
    using State = RadosPool::ClassState;
    const auto usage = read_rados_usage(pool.cluster());
    const State state = pool.class_state;
    std::vector<std::shared_ptr<RadosCall<Capacity>>> calls;
    {
      std::lock_guard lock(mutex_);
      calls.swap(capacity_calls_);
    }
    for (auto& call : calls) {
      if (!usage) {
        call->answer(failure(usage.error()));
        continue;
      }
      Capacity capacity;
      capacity.bytes_total = usage.value().bytes_total;
      capacity.bytes_free = usage.value().bytes_free;
      capacity.raw_bytes_per_byte = usage.value().raw_bytes_per_byte;
      if (state != State::unknown) capacity.class_there = state == State::there;
      call->answer(capacity);
    }
  }

  std::mutex mutex_;
  std::vector<std::shared_ptr<RadosCall<Capacity>>> capacity_calls_;
  RadosCalls calls_;  // last: destroyed first, its threads use the above
};

}  // namespace

std::unique_ptr<ObjectStore> make_rados_store(RadosOptions options) {
  return std::make_unique<RadosStore>(std::move(options));
}

}  // namespace datacloud
