// What a cloud may use beyond format 1, each by a name of its own (docs/format.md, "Features").
//
// A cloud switches features on once and for ever, when the daemon and all of its mounts know them.
// A program that does not know a feature of a cloud refuses the cloud and names the version to
// install.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "common/base/error.h"

namespace datacloud {

enum class Feature : uint32_t {
  times = 0,         // times outside 1677 to 2262, and times of creation
  trees = 1,         // directories declared as trees
  shared_slots = 2,  // several files use one sealed block: clones
  journal = 3,       // metadata is replicated to a quorum of the sites
  inline_data = 4,   // blocks and patches of blocks in the metadata
  file_flags = 5,    // immutable and append-only files and directories
  reservations = 6,  // space reserved for files, and holes punched into them
  posix_acl = 7,     // access control lists
};

struct KnownFeature {
  Feature feature;
  std::string_view name;     // as in records and on the wire
  std::string_view version;  // of the first program that knows it
  std::string_view what;     // what it permits, for people
  // The command that switches it on, where that takes more than a record; empty: `feature enable`.
  std::string_view command = {};
  bool daemon_only = false;  // mounts need not know it
};

// Those this program knows, by name.
std::span<const KnownFeature> known_features();
const KnownFeature* find_feature(std::string_view name);  // null: unknown
const KnownFeature& describe(Feature);

// A set of features. Copied freely; changes of a cloud's set are told by who holds it.
class FeatureSet {
 public:
  // Of a record or a reply: `version` is the one that knows the feature. unsupported: this program
  // does not know it; the text says what to install.
  result<void> add_named(std::string_view name, std::string_view version);
  bool has(Feature feature) const { return bits_ & bit(feature); }
  void add(Feature feature) { bits_ |= bit(feature); }
  bool empty() const { return bits_ == 0; }
  bool operator==(const FeatureSet&) const = default;

 private:
  static uint32_t bit(Feature feature) { return 1u << static_cast<uint32_t>(feature); }
  uint32_t bits_ = 0;
};

}  // namespace datacloud
