// A site that is a pool of a Ceph cluster, reached through librados.
//
// Layout: a RADOS namespace per cloud (its UUID unless configured) in one pool. An object is one
// RADOS object: its data, its attributes as xattrs (rados_attributes.h). The marker is the object
// "datacloud-site" of the same namespace. No omap, no partial writes, no class is needed, so that
// replicated and erasure-coded pools both work (with or without overwrites).
//
// One connection per store, shared by all threads. It is made on a thread of the store's own: the
// process never waits for a cluster, whose site is away until it answers; lost connections come
// back by themselves. librados gives up a call after kRadosCallTimeout; callers set closer
// deadlines (DeadlineStore).
//
// Away: the cluster cannot be reached or refuses the user, the pool is gone, or the marker is
// absent or another's. No call is let through unless the marker was verified within the last
// kMarkerFresh on the very pool it goes to (a pool deleted and created again has another id, and
// its marker is looked for first); "not found" is said only after the marker was verified once
// more. So a marker removed by hand is noticed after kMarkerFresh at the latest.
//
// Durability of put: one compound write operation, exclusive; Ceph answers when every replica (or
// shard of the pool's own code) of the acting set has it on its medium. Full clusters answer
// no_space, and pools whose quota is used up EDQUOT, instead of blocking (FULL_TRY).
#pragma once

#include <memory>
#include <string>

#include "common/store/object_store.h"

namespace datacloud {

struct RadosOptions {
  std::string site;     // for texts
  std::string conf;     // ceph.conf
  std::string user;     // "client.datacloud"
  std::string keyring;  // empty: where the conf says
  std::string pool;
  std::string nspace;
  SiteMarker expected;  // what must be there
  // Its requests stand behind those of others in the OSDs' queues, when these are long.
  bool background = false;
};

inline constexpr Duration kMarkerFresh = seconds(3);
inline constexpr Duration kRadosCallTimeout = seconds(30);

// Never fails and never waits: what is wrong makes the site away, with the reason.
std::unique_ptr<ObjectStore> make_rados_store(RadosOptions);

// The blocking calls below are for the administrator's tool; away says what is wrong and the
// remedy.

// Writes `expected` as the marker. exists: the namespace holds one; invalid: it holds objects.
result<void> format_rados(const RadosOptions&);
// Takes format_rados back: the marker, if it is `expected` and no object is there.
result<void> unformat_rados(const RadosOptions&);
// not_found: no marker; corrupt: a damaged one.
result<SiteMarker> read_rados_marker(const RadosOptions&);

// "FSID/POOL ID": equal for two sites that are one pool.
struct RadosIdentity {
  std::string cluster;
  std::string pool;
};
result<RadosIdentity> identify_rados(const RadosOptions&);

// The `ceph` command that makes the user with no more rights than are needed; with the verb "caps"
// the one that gives them to a user who is there. An empty pool or namespace is shown as a word in
// capitals.
std::string rados_auth_command(const std::string& user, const std::string& pool,
                               const std::string& nspace,
                               const std::string& verb = "get-or-create");

}  // namespace datacloud
