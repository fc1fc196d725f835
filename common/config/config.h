// The configuration file: one TOML file for daemon, mount and tool (docs/operations.md).
// Unknown keys are errors that name the key and line, so that a typing mistake never becomes a
// silent default.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "common/base/error.h"
#include "common/crypto/block_patches.h"

namespace datacloud {

// A machine that has joined (`datacloud join`): it runs no daemon.
struct NodeConfig {
  std::vector<std::string> daemon;  // "tls://HOST:PORT", where daemons are; empty: no node
  std::filesystem::path key;        // PEM, made here
  std::filesystem::path certificate;
  std::filesystem::path authority;  // the cloud's own, whom we trust
  // Of authorities that sign machines beside it ([daemon], [node] authorities); empty: none.
  std::filesystem::path organisation;
  // Who the daemon is when they have signed its certificate (server_certificate.h); beside the
  // daemon, what nodes are told, and empty: what its certificate says.
  std::vector<std::string> daemon_identity;
  bool joined() const { return !daemon.empty(); }
};

// A certificate of the organisation's own authority that a server shows; empty: one of the cloud's.
struct ShownCertificate {
  std::filesystem::path certificate;  // PEM, those between it and the authority behind it
  std::filesystem::path key;
};

inline constexpr uint64_t kSiteWindowBytesMax = 256u << 20;

struct SiteConfig {
  std::string name;
  std::string store;           // "directory", "remote" or "rados" (and, in tests, "memory")
  std::filesystem::path path;  // directory

  std::filesystem::path conf;             // rados: the cluster's ceph.conf
  std::string user = "client.datacloud";  // rados
  std::filesystem::path keyring;          // rados; empty: where conf says
  std::string pool;                       // rados
  std::string nspace;                     // rados, `namespace`; empty: the cloud's UUID

  std::string serve;    // directory: "tls://HOST:PORT" where `datacloudd --site` listens, or empty
  std::string metrics;  // of its server, as [daemon] metrics; empty: nowhere
  std::string address;  // remote: where it is reached; directory: where nodes reach it, or empty
  // Who its server is when the organisation has certified it (server_certificate.h).
  std::vector<std::string> identity;
  ShownCertificate shown;  // by its server, here
  // Memory that a node and a server on one machine share, in place of TLS: of a remote site, what
  // this machine asks for; of one served here, what a node is given at most. 0: none.
  std::optional<uint64_t> window_bytes;
  // remote: what this machine shows there, from [node] or [keys]; both empty: nothing.
  NodeConfig node;
  std::filesystem::path service_key;
};

struct CloudConfig {
  std::string name;
  std::string code = "rs-3-2";
  uint32_t block_bytes = 65536;     // default block of the root directory; power of two
  std::string compress = "zstd";    // "zstd" or "none"
  uint32_t write_sites_min = 0;     // 0: a majority of the sites
  uint32_t shard_bytes = 4u << 20;  // most plain bytes of a data column
};

struct DaemonConfig {
  std::filesystem::path state;
  std::vector<std::string> listen;  // "unix:/path", "tls://HOST:PORT"
  // Among the daemons of the cloud (daemon_place.h).
  std::string name;                    // empty: this machine's
  uint32_t order = 0;                  // of those that are up the lowest one leads
  std::vector<std::string> advertise;  // where mounts reach it; empty: as `listen` says
  bool standby = false;                // leads only when no other daemon does
  ShownCertificate shown;              // to nodes that ask for the organisation's
  uint64_t certificate_ms = 90ull * 24 * 3600 * 1000;  // of nodes; renewed at two thirds
  std::string site;
  uint32_t lease_ms = 5'000;
  uint32_t sessions_max = 1024;
  uint32_t leases_max = 4'000'000;
  uint32_t locks_per_file_max = 16'384;
  uint32_t locks_per_mount_max = 100'000;
  uint32_t locks_waiting_per_mount_max = 256;
  uint32_t requests_in_flight_max = 1024;  // per connection
  uint32_t rpc_threads = 0;  // that move the bytes of connections; 0: by the processors
  uint64_t leveldb_cache_bytes = 64u << 20;
  uint32_t gc_interval_ms = 5'000;
  std::string fold = "auto";  // "auto": merge half-dead and small stripes unasked; "manual"
  uint32_t block_patches_max = kBlockPatchesDefault;  // then its next update is the whole block
  // Of blocks and patches that mounts may leave in the metadata (feature "inline"); then into
  // stripes.
  uint64_t inline_bytes_max = 256u << 20;
  // Of these, how many may come in; beyond, into stripes. 0: no limit.
  uint64_t inline_bytes_per_second_max = 12u << 20;
  uint64_t fold_age_ms = 60'000;         // younger updates and stripes are left alone
  uint64_t fold_heat_ms = 600'000;       // a stripe whose updates keep coming waits at most this
  uint64_t fold_blocked_ms = 1'800'000;  // after this, updates are merged without their stripe
  uint64_t fold_backlog_bytes_max = 1u << 30;          // of updates; above, commits are delayed
  uint64_t audit_cycle_ms = 14ull * 24 * 3600 * 1000;  // every shard proven once in it; 0: never
  uint32_t background_threads = 4;                    // stripes repaired, audited or folded at once
  uint64_t background_site_bytes_per_second_max = 0;  // 0: no limit
  uint32_t background_site_operations_per_second_max = 0;  // 0: no limit
  uint64_t scrub_cycle_ms = 7ull * 24 * 3600 * 1000;  // every site's objects listed once; 0: never
  // When background work has its whole limit ("mon-fri 19:00-07:00", local time); none: always.
  std::vector<std::string> background_windows;
  uint64_t background_outside_bytes_per_second_max = 1u << 20;  // and outside of them, per site
  std::string log_format = "text";                              // or "json"
  std::string metrics;  // "127.0.0.1:9555": Prometheus' /metrics is served there; empty: nowhere
};

// Of a cloud that has a journal (docs/journal.md).
struct JournalConfig {
  uint64_t bytes_max = 256u << 20;  // of entries at a site; a checkpoint is due at half of it
  // Of changes that no quorum has yet; above, requests that change wait.
  uint64_t uncommitted_bytes_max = 64u << 20;
  uint64_t segment_bytes = 16u << 20;  // of new journals: files or objects a site's log consists of
  // With standbys: how long the leader answers without hearing from a quorum of the sites; how long
  // it may be silent before a standby takes over; and how long a leader stays, before it hands over
  // to a standby of a lower order.
  uint32_t leader_lease_ms = 1'500;
  uint32_t takeover_after_ms = 1'500;
  uint32_t leader_stay_ms = 60'000;
};

struct KeysConfig {
  std::filesystem::path data;
  std::filesystem::path service;
};

// Memory and time bounds of a mount; each can be overridden by -o NAME=VALUE.
struct MountConfig {
  uint64_t dirty_bytes_max = 192u << 20;     // plain bytes not yet committed
  uint64_t cache_bytes_max = 192u << 20;     // plain bytes in the block cache
  uint32_t stripes_in_flight_max = 4;        // stripes being encoded and put
  uint32_t readahead_bytes_max = 16u << 20;  // per open file
  uint32_t flush_after_ms = 900;             // age at which dirty data is written on its own
  uint32_t close_flush_after_ms = 20;        // the same after the last close (small files batch)
  uint32_t put_deadline_ms = 10'000;         // one shard write
  uint32_t read_deadline_ms = 5'000;         // one shard read
  uint32_t hedge_after_ms = 500;             // a slower shard read is raced by a decode
  uint32_t rpc_deadline_ms = 30'000;         // a request to the daemon, reconnects included
  uint64_t kept_bytes_max = 32u << 20;       // requests answered that the daemon could still lose
  uint32_t threads = 16;                     // FUSE worker threads
  bool sync_close = false;                   // close waits for durability
  // Feature "inline": what fsync puts into the metadata, until it is written into stripes.
  uint32_t inline_flush_bytes_max = 16u << 10;  // of one fsync of a file; 0: never
  uint32_t inline_file_bytes_max = 1u << 20;    // of a file
  uint64_t inline_bytes_max = 16u << 20;        // of all files of this mount
  uint32_t inline_quiet_ms = 5'000;  // a file without changes for so long goes into stripes
};

struct Config {
  std::filesystem::path file;
  CloudConfig cloud;
  DaemonConfig daemon;
  JournalConfig journal;
  NodeConfig node;
  KeysConfig keys;
  MountConfig mount;
  std::vector<SiteConfig> sites;

  // Where this machine's programs reach the daemon: of a node, the daemon's addresses; beside the
  // daemon, its Unix sockets.
  std::vector<std::string> daemon_addresses() const;
};

// Errors are `invalid` and read "FILE:LINE: what is wrong; what to do".
result<Config> load_config(const std::filesystem::path&);
result<Config> parse_config(const std::string& text, const std::filesystem::path& file);

// Applies one mount option NAME=VALUE (the names of MountConfig) or says what is wrong with it.
result<bool> apply_mount_option(MountConfig&, const std::string& option);

// "64MiB", "16M", "4096" -> bytes; "10s", "500ms" -> milliseconds.
result<uint64_t> parse_bytes(const std::string&);
result<uint64_t> parse_milliseconds(const std::string&);

}  // namespace datacloud
