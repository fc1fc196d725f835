// The object store seam: everything above it is ignorant of what a site is made of.
//
// A store holds immutable named objects. An object is created once, whole, with its attributes,
// and is never changed afterwards; names are never reused (the one rule, docs/design.md).
//
// Asynchrony: every call returns at once and answers exactly once through its callback, which
// runs on a thread of the store and must not block. A callback may run before the call returns.
// Callers fan out and wait for enough.
//
// Deadlines: DeadlineStore (store_decorators.h) answers Errc::timed_out when a call is late; a
// back end does not have to watch the clock. A put that timed out is UNKNOWN: it may still
// land at any time, so its name must be abandoned, never retried.
//
// Failures: away = the site's marker is absent or another's (nothing is said about objects);
// not_found = the site is there and the object is not; exists; no_space, or EDQUOT for
// a quota (out_of_space.h); io; timed_out.
//
// Thread safety: all methods may be called from any thread. Destroying a store waits for the
// callbacks of calls it has accepted.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/tags/object_requests.h"

namespace datacloud {

// What a transfer is for; `datacloud traffic` reports bytes by site and purpose.
enum class Purpose { client, audit, repair, fold, journal, gc };
inline constexpr int kPurposeCount = 6;
const char* purpose_name(Purpose);

struct OpOptions {
  MonotonicTime deadline = MonotonicTime::max();
  Purpose purpose = Purpose::client;
};

// Object names: 1 to 200 characters of [A-Za-z0-9._-], not starting with '.'.
bool valid_object_name(const std::string&);

// Small named values stored with an object (a few KiB in total, at most kAttributesBytesMax).
using Attributes = std::map<std::string, std::string>;
inline constexpr size_t kAttributesBytesMax = 64u << 10;  // names and values

// Bytes to write: the concatenation of the parts. `owner` keeps the memory behind them alive
// until the callback has run (and, after a timeout, for as long as the back end needs it).
struct Payload {
  std::vector<ByteView> parts;
  std::shared_ptr<const void> owner;

  size_t size() const {
    size_t n = 0;
    for (const auto& p : parts) n += p.size();
    return n;
  }
  static Payload from(Bytes bytes);
};

struct ReadReply {
  std::vector<Bytes> ranges;  // in the order asked; a range past the end is shortened
  Attributes attributes;      // filled when asked for
  uint64_t object_size = 0;
};

struct ListReply {
  std::vector<std::string> names;  // in an order of the store's own
  std::string next;                // give to the next call; empty: the listing is complete
};

template <class T>
using Callback = std::function<void(result<T>)>;

class ObjectStore {
 public:
  virtual ~ObjectStore() = default;

  // Creates `name` exclusively. On success object and attributes are durable, also across a
  // power cut. On exists nothing was changed; after no_space, EDQUOT or io the back end has tried
  // to leave nothing; after any failure but exists the name is to be abandoned.
  virtual void put(const std::string& name, Payload data, Attributes attributes, OpOptions,
                   Callback<void>) = 0;

  // Reads ranges (and all attributes, if asked) of one instant of one object.
  virtual void read(const std::string& name, std::vector<ByteRange> ranges, bool want_attributes,
                    OpOptions, Callback<ReadReply>) = 0;

  // Creates `name` exclusively as Derivation says. Failures and durability are those of put: after
  // a time-out the name is UNKNOWN and abandoned. exists: nothing changed. not_found: the source is
  // not there. corrupt: its instance or its tags are not what they must be.
  virtual void derive(const std::string& name, Derivation, OpOptions, Callback<DeriveReply>) = 0;

  // Linear combinations of ranges of one object, for repair by helpers that send less than they
  // hold.
  virtual void combine(const std::string& name, Combination, OpOptions, Callback<CombineReply>) = 0;

  // Answers an audit challenge. corrupt: the object lacks its instance or its tags.
  virtual void prove(const std::string& name, AuditChallenge, OpOptions, Callback<AuditProof>) = 0;

  // Removes an object; not_found when it is not there. Durable on success.
  virtual void remove(const std::string& name, OpOptions, Callback<void>) = 0;

  // Up to count_max names that exist (objects put or removed meanwhile may or may not show).
  // `from` is empty or a previous reply's `next`. Marker and temporaries are not listed.
  virtual void list(const std::string& from, size_t count_max, OpOptions, Callback<ListReply>) = 0;

  // Verifies the site's marker now: success, away, or timed_out.
  virtual void check(OpOptions, Callback<void>) = 0;

  // Where the object would be found by an administrator: an absolute file path for a directory
  // site, "pool/namespace/object" for RADOS, "memory:NAME" for tests.
  virtual std::string location(const std::string& name) const = 0;

  struct Capacity {
    uint64_t bytes_total = 0;
    uint64_t bytes_free = 0;
    double raw_bytes_per_byte = 1;    // on its media, per byte stored: the site's own redundancy
    std::optional<bool> class_there;  // RADOS: our OSD class works there
  };
  virtual void capacity(OpOptions, Callback<Capacity>) = 0;
};

// Runs an asynchronous call and waits for its answer. Only for threads that may block.
template <class T, class Start>
result<T> wait_for(Start&& start);

// What identifies a site: kept in an object of its own at the site ("marker").
struct SiteMarker {
  std::string cloud_uuid;
  std::string cloud_name;
  std::string site_name;
  uint32_t site_id = 0;
  uint32_t format_version = 1;

  std::string encode() const;  // one line of text per field, checksummed; docs/format-sites.md
  static result<SiteMarker> decode(std::string_view);
  bool operator==(const SiteMarker&) const = default;
};

}  // namespace datacloud

#include "common/store/object_store_wait.h"
