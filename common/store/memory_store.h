// Objects in memory, for tests: answers before the call returns, on the caller's thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/store/object_store.h"

namespace datacloud {

struct MemoryStoreState;

// What a test does to a memory store behind its callers' back. Works also after the store is gone,
// and with several stores over one state (a restart: the same site opened again).
class MemoryStoreControl {
 public:
  MemoryStoreControl();
  void set_away(bool);  // every call answers away
  void set_full(bool);  // puts answer no_space
  size_t object_count() const;
  std::vector<std::string> names() const;
  // Replaces an object's bytes; false when it is not there.
  bool overwrite(const std::string& name, Bytes);

 private:
  friend std::unique_ptr<ObjectStore> make_memory_store(MemoryStoreControl);
  std::shared_ptr<MemoryStoreState> state_;
};

std::unique_ptr<ObjectStore> make_memory_store(MemoryStoreControl = {});

}  // namespace datacloud
