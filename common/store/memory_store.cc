// The memory back end: a locked map with the seam's semantics and nothing else.
#include "common/store/memory_store.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <mutex>

#include "common/store/hidden_names.h"
#include "common/store/object_compute.h"

namespace datacloud {

struct MemoryStoreState {
  struct Object {
    Bytes data;
    Attributes attributes;
  };
  mutable std::mutex mutex;
  std::map<std::string, Object> objects;
  bool away = false;
  bool full = false;
};

MemoryStoreControl::MemoryStoreControl() : state_(std::make_shared<MemoryStoreState>()) {}

void MemoryStoreControl::set_away(bool away) {
  std::lock_guard lock(state_->mutex);
  state_->away = away;
}

void MemoryStoreControl::set_full(bool full) {
  std::lock_guard lock(state_->mutex);
  state_->full = full;
}

size_t MemoryStoreControl::object_count() const {
  std::lock_guard lock(state_->mutex);
  return state_->objects.size();
}

std::vector<std::string> MemoryStoreControl::names() const {
  std::lock_guard lock(state_->mutex);
  std::vector<std::string> names;
  for (const auto& entry : state_->objects) names.push_back(entry.first);
  return names;
}

bool MemoryStoreControl::overwrite(const std::string& name, Bytes data) {
  std::lock_guard lock(state_->mutex);
  auto it = state_->objects.find(name);
  if (it == state_->objects.end()) return false;
  it->second.data = std::move(data);
  return true;
}

namespace {

constexpr uint64_t kPretendedBytes = uint64_t{1} << 40;

class MemoryStore final : public ObjectStore {
 public:
  explicit MemoryStore(std::shared_ptr<MemoryStoreState> state) : state_(std::move(state)) {}

  void put(const std::string& name, Payload data, Attributes attributes, OpOptions,
           Callback<void> callback) override {
    answer<void>(callback, [&]() -> result<void> {
      if (!storable_object_name(name)) return failure(invalid(name));
      if (data.size() > kObjectBytesMax) return failure(Errc::invalid, name + " exceeds 64 MiB");
      size_t attribute_bytes = 0;
      for (const auto& [key, value] : attributes) attribute_bytes += key.size() + value.size();
      if (attribute_bytes > kAttributesBytesMax) {
        return failure(Errc::invalid, name + " has more than 64 KiB of attributes");
      }
      if (state_->objects.count(name)) return failure(Errc::exists, location(name));
      if (state_->full) return failure(Errc::no_space, location(name));
      auto& object = state_->objects[name];
      object.data.reserve(data.size());
      for (const auto& part : data.parts) {
        object.data.insert(object.data.end(), part.begin(), part.end());
      }
      object.attributes = std::move(attributes);
      return success();
    });
  }

  void read(const std::string& name, std::vector<ByteRange> ranges, bool want_attributes, OpOptions,
            Callback<ReadReply> callback) override {
    answer<ReadReply>(callback, [&]() -> result<ReadReply> {
      TRY(auto object, find(name));
      ReadReply reply;
      reply.object_size = object->data.size();
      for (const auto& range : ranges) reply.ranges.push_back(cut(object->data, range));
      if (want_attributes) reply.attributes = object->attributes;
      return reply;
    });
  }

  void derive(const std::string& name, Derivation derivation, OpOptions,
              Callback<DeriveReply> callback) override {
    answer<DeriveReply>(callback, [&]() -> result<DeriveReply> {
      if (!storable_object_name(name)) return failure(invalid(name));
      if (state_->objects.count(name)) return failure(Errc::exists, location(name));
      TRY(auto source, find(derivation.source));
      TRY(auto made, derive_object(source->data, source->attributes, derivation));
      if (state_->full) return failure(Errc::no_space, location(name));
      state_->objects[name] = {std::move(made.data), std::move(made.attributes)};
      return DeriveReply{made.bytes_transferred};
    });
  }

  void combine(const std::string& name, Combination combination, OpOptions,
               Callback<CombineReply> callback) override {
    answer<CombineReply>(callback, [&]() -> result<CombineReply> {
      TRY(check_combination(combination));
      TRY(auto object, find(name));
      std::vector<Bytes> ranges;
      for (const auto& range : combination.ranges) ranges.push_back(cut(object->data, range));
      return combine_ranges(std::move(ranges), combination);
    });
  }

  void prove(const std::string& name, AuditChallenge challenge, OpOptions,
             Callback<AuditProof> callback) override {
    answer<AuditProof>(callback, [&]() -> result<AuditProof> {
      TRY(auto object, find(name));
      TRY(auto plan, plan_proof(challenge, object->data.size(), object->attributes));
      std::vector<Bytes> ranges;
      for (const auto& range : plan.ranges) ranges.push_back(cut(object->data, range));
      return plan.prove(ranges);
    });
  }

  void remove(const std::string& name, OpOptions, Callback<void> callback) override {
    answer<void>(callback, [&]() -> result<void> {
      if (!storable_object_name(name)) return failure(invalid(name));
      if (state_->objects.erase(name) == 0) return failure(Errc::not_found, location(name));
      return success();
    });
  }

  void list(const std::string& from, size_t count_max, OpOptions,
            Callback<ListReply> callback) override {
    answer<ListReply>(callback, [&]() -> result<ListReply> {
      if (count_max == 0) return failure(Errc::invalid, "a listing of no names");
      ListReply reply;
      auto it = from.empty() ? state_->objects.begin() : state_->objects.upper_bound(from);
      for (; it != state_->objects.end() && reply.names.size() < count_max; ++it) {
        if (!hidden_object_name(it->first)) reply.names.push_back(it->first);
      }
      if (it != state_->objects.end()) reply.next = std::prev(it)->first;
      return reply;
    });
  }

  void check(OpOptions, Callback<void> callback) override {
    answer<void>(callback, []() -> result<void> { return success(); });
  }

  std::string location(const std::string& name) const override { return "memory:" + name; }

  void capacity(OpOptions, Callback<Capacity> callback) override {
    answer<Capacity>(callback, [&]() -> result<Capacity> {
      return Capacity{kPretendedBytes, state_->full ? 0 : kPretendedBytes};
    });
  }

 private:
  static Error invalid(const std::string& name) {
    return Error(Errc::invalid, "not an object name: " + name.substr(0, 200));
  }

  static Bytes cut(const Bytes& data, const ByteRange& range) {
    const size_t offset = std::min<uint64_t>(range.offset, data.size());
    const size_t length = std::min<uint64_t>(range.length, data.size() - offset);
    return to_bytes(ByteView(data).subspan(offset, length));
  }

  result<const MemoryStoreState::Object*> find(const std::string& name) const {
    if (!storable_object_name(name)) return failure(invalid(name));
    auto it = state_->objects.find(name);
    if (it == state_->objects.end()) return failure(Errc::not_found, location(name));
    return &it->second;
  }

  template <class T, class Work>
  void answer(const Callback<T>& callback, Work work) {
    result<T> r = [&]() -> result<T> {
      std::lock_guard lock(state_->mutex);
      if (state_->away) return failure(Errc::away, "the memory store is set away");
      return work();
    }();
    callback(std::move(r));
  }

  const std::shared_ptr<MemoryStoreState> state_;
};

}  // namespace

std::unique_ptr<ObjectStore> make_memory_store(MemoryStoreControl control) {
  return std::make_unique<MemoryStore>(control.state_);
}

}  // namespace datacloud
