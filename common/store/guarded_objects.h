// Objects that change under a guard: what the journal needs of a site beyond the object store seam.
//
// An operation on one object is atomic: it compares attributes, and when all guards hold it changes
// attributes and appends bytes, else nothing. Operations on one object take effect in the order in
// which they were started, unless one of them failed.
//
// Failures: stale = a guard did not hold, nothing has changed; not_found; exists (create);
// timed_out and everything else is UNKNOWN for what changes: it may still happen at any time.
//
// Durability: success survives a power cut of the site. Threading: all methods from any thread;
// they return at once, and answer exactly once, on a thread of the site or before they return;
// callbacks must not block. Destroying it waits for the callbacks.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/store/object_store.h"

namespace datacloud {

struct AttributeGuard {
  std::string attribute;
  // same: the attribute is this text. below: it is a decimal number below `number`. An attribute
  // that is absent counts as an empty text and as 0.
  enum class Is { same, below } is = Is::same;
  std::string text;
  uint64_t number = 0;  // below 2^63
};

struct GuardedChange {
  std::vector<AttributeGuard> guards;
  Attributes set;
  SharedBytes append;  // null or empty: nothing
};

struct ObjectView {
  Attributes attributes;
  uint64_t size = 0;
  Bytes bytes;  // of the range asked for
};

class GuardedObjects {
 public:
  virtual ~GuardedObjects() = default;
  virtual void create(const std::string& name, Attributes, Callback<void>) = 0;
  virtual void change(const std::string& name, GuardedChange, Callback<void>) = 0;
  // All attributes, the size and a range, of one instant.
  virtual void view(const std::string& name, ByteRange, Callback<ObjectView>) = 0;
  virtual void remove(const std::string& name, Callback<void>) = 0;
  // Appends must be multiples of it. May block.
  virtual result<size_t> append_unit() = 0;
  virtual std::string location() const = 0;  // for texts
};

// In memory; shared by all handles that hold it.
class GuardedMemory;
std::shared_ptr<GuardedMemory> make_guarded_memory(size_t append_unit = 1);
std::unique_ptr<GuardedObjects> open_guarded_memory(std::shared_ptr<GuardedMemory>);
// For tests: a copy of everything, and putting it back, as a restored backup does.
std::shared_ptr<GuardedMemory> copy_guarded_memory(GuardedMemory&);
void restore_guarded_memory(GuardedMemory&, GuardedMemory& from);
size_t guarded_memory_objects(GuardedMemory&);

}  // namespace datacloud
