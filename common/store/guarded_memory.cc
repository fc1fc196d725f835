// Guarded objects in memory: for tests and simulations, and the definition of what guards mean.
#include <algorithm>
#include <charconv>
#include <mutex>

#include "common/store/guarded_objects.h"

namespace datacloud {

class GuardedMemory {
 public:
  explicit GuardedMemory(size_t unit) : unit(unit) {}
  struct Object {
    Attributes attributes;
    Bytes bytes;
  };
  std::mutex mutex;
  std::map<std::string, Object> objects;
  const size_t unit;
};

namespace {

std::string text_of(const Attributes& attributes, const std::string& name) {
  const auto found = attributes.find(name);
  return found == attributes.end() ? "" : found->second;
}

bool holds(const AttributeGuard& guard, const Attributes& attributes) {
  const std::string value = text_of(attributes, guard.attribute);
  if (guard.is == AttributeGuard::Is::same) return value == guard.text;
  uint64_t number = 0;
  std::from_chars(value.data(), value.data() + value.size(), number);
  return number < guard.number;
}

class MemoryGuardedObjects final : public GuardedObjects {
 public:
  explicit MemoryGuardedObjects(std::shared_ptr<GuardedMemory> memory)
      : memory_(std::move(memory)) {}

  void create(const std::string& name, Attributes attributes, Callback<void> done) override {
    done([&]() -> result<void> {
      std::lock_guard lock(memory_->mutex);
      if (!memory_->objects.try_emplace(name, GuardedMemory::Object{attributes, {}}).second) {
        return failure(Errc::exists, "create " + name);
      }
      return success();
    }());
  }

  void change(const std::string& name, GuardedChange change, Callback<void> done) override {
    done([&]() -> result<void> {
      std::lock_guard lock(memory_->mutex);
      const auto found = memory_->objects.find(name);
      if (found == memory_->objects.end()) return failure(Errc::not_found, "change " + name);
      auto& [attributes, bytes] = found->second;
      for (const auto& guard : change.guards) {
        if (!holds(guard, attributes)) {
          return failure(Errc::stale, "change " + name + ": " + guard.attribute + " is " +
                                          text_of(attributes, guard.attribute));
        }
      }
      if (change.append && change.append->size() % memory_->unit != 0) {
        return failure(Errc::invalid, "append to " + name + " off the unit");
      }
      for (const auto& [key, value] : change.set) attributes[key] = value;
      if (change.append) bytes.insert(bytes.end(), change.append->begin(), change.append->end());
      return success();
    }());
  }

  void view(const std::string& name, ByteRange range, Callback<ObjectView> done) override {
    done([&]() -> result<ObjectView> {
      std::lock_guard lock(memory_->mutex);
      const auto found = memory_->objects.find(name);
      if (found == memory_->objects.end()) return failure(Errc::not_found, "view " + name);
      const auto& [attributes, bytes] = found->second;
      const uint64_t start = std::min<uint64_t>(range.offset, bytes.size());
      const uint64_t end = start + std::min<uint64_t>(range.length, bytes.size() - start);
      return ObjectView{attributes, bytes.size(),
                        Bytes(bytes.begin() + static_cast<std::ptrdiff_t>(start),
                              bytes.begin() + static_cast<std::ptrdiff_t>(end))};
    }());
  }

  void remove(const std::string& name, Callback<void> done) override {
    done([&]() -> result<void> {
      std::lock_guard lock(memory_->mutex);
      if (memory_->objects.erase(name) == 0) return failure(Errc::not_found, "remove " + name);
      return success();
    }());
  }

  result<size_t> append_unit() override { return memory_->unit; }
  std::string location() const override { return "memory"; }

 private:
  const std::shared_ptr<GuardedMemory> memory_;
};

}  // namespace

std::shared_ptr<GuardedMemory> make_guarded_memory(size_t append_unit) {
  return std::make_shared<GuardedMemory>(append_unit);
}

std::unique_ptr<GuardedObjects> open_guarded_memory(std::shared_ptr<GuardedMemory> memory) {
  return std::make_unique<MemoryGuardedObjects>(std::move(memory));
}

std::shared_ptr<GuardedMemory> copy_guarded_memory(GuardedMemory& memory) {
  auto copy = make_guarded_memory(memory.unit);
  restore_guarded_memory(*copy, memory);
  return copy;
}

void restore_guarded_memory(GuardedMemory& memory, GuardedMemory& from) {
  std::scoped_lock lock(memory.mutex, from.mutex);
  memory.objects = from.objects;
}

size_t guarded_memory_objects(GuardedMemory& memory) {
  std::lock_guard lock(memory.mutex);
  return memory.objects.size();
}

}  // namespace datacloud
