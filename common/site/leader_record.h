// The record of who leads a cloud, as the sites hold it: for a mount all of whose known addresses
// are dead.
//
// Each site has it under one of two names, in turn: the writer removes the older one and puts the
// new one in its place, so that one whole record is there at any time. It is the one object whose
// name is used again. A put that lands late brings back an older record, never a wrong one: each
// says which leadership wrote it, and a reader takes the newest of all sites.
//
//   record := "DCLR" | version u8 = 1 | zero (3) | nonce (12) | LeaderRecord | tag (16),
//   AES-256-GCM key    := HKDF(service key, "datacloud 1 leader record UUID", 32)        aad := the
//   first 8 bytes
//
// The sites cannot read it, nor make one; they can hold an old one back or show it, which leads to
// a daemon that does not lead and is passed over. Mounts get the key with their hello.
#pragma once

#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/config/config.h"
#include "common/crypto/keys.h"
#include "common/proto/leader.pb.h"

namespace datacloud {

inline constexpr int kLeaderRecordSlots = 2;
inline constexpr size_t kLeaderRecordBytesMax = 64u << 10;

// ".leader-0" and ".leader-1".
std::string leader_record_name(int slot);
SecretKey derive_leader_key(const SecretKey& service_key, const std::string& cloud_uuid);

Bytes seal_leader_record(const SecretKey& leader_key, const pb::LeaderRecord&);
// corrupt: not sealed with this key, or damaged.
result<pb::LeaderRecord> open_leader_record(const SecretKey& leader_key, ByteView sealed);
// By epoch, then by revision.
bool is_newer(const pb::LeaderRecord&, const pb::LeaderRecord& than);

// Reads the newest record of all sites. Blocks until all have answered, for `grace` after the first
// record, or for `patience`. unavailable: no site has one; the text says what became of each.
// A call to a site that hangs goes on by itself, and holds copies of what it needs.
result<pb::LeaderRecord> read_leader_record(const std::vector<SiteConfig>&,
                                            const std::string& cloud_uuid,
                                            const SecretKey& leader_key, Duration patience,
                                            Duration grace);

}  // namespace datacloud
