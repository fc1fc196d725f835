// What the daemon's service is made of, as its start and tests put it together.
//
// The cloud's record, the keys and the places of sites change when sites join and leave: on the
// service's thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "common/audit/audit_bundle.h"
#include "common/codes/erasure_code.h"
#include "common/config/config.h"
#include "common/crypto/keys.h"
#include "common/rpc/peer_refusals.h"
#include "common/site/site_set.h"
#include "common/tls/certificate.h"
#include "daemon/leadership/daemon_places.h"
#include "daemon/leadership/leader_lease.h"
#include "daemon/loop/event_loop.h"
#include "daemon/metadata/journal_committer.h"
#include "daemon/metadata/metadata_store.h"
#include "daemon/metadata/state_space.h"
#include "daemon/sessions/process_probe.h"

namespace datacloud {

struct ServiceDependencies {
  MetadataStore& store;
  SiteSet& sites;
  std::shared_ptr<EventLoop> loop;
  ProcessProbe& processes;
  pb::Cloud cloud;
  DaemonConfig config;
  Bytes name_key;
  std::shared_ptr<const ErasureCode> code;            // of the root directory
  std::map<std::string, std::string> site_locations;  // by site name, for people
  std::map<SiteId, SecretKey> audit_keys;
  std::shared_ptr<const SigningKey> audit_signer;  // null: no bundles for third parties
  // A site that joins, as the configuration says now; from a background thread. Empty: sites are
  // used from the next start on.
  struct Joined {
    std::unique_ptr<ObjectStore> store;
    SecretKey audit_key;
    std::string location;
  };
  std::function<result<Joined>(const pb::SiteInfo&)> open_site = {};
  std::shared_ptr<StateSpace> space = {};  // null: the disk of the metadata is never full
  // Signs the certificates of nodes; null: there are none.
  std::shared_ptr<const CertificateAuthority> authority = {};
  std::shared_ptr<PeerRefusals> refusals = {};  // what peers over TLS were turned away for
  // Of a cloud with a journal, in place of commits to the local disk; null: it has none.
  std::shared_ptr<JournalCommitter> journal = {};
  JournalConfig journal_config = {};
  // Of the record that says at the sites who leads; null: none is written.
  std::optional<SecretKey> leader_key = {};
  // Makes empty logs at the sites of a new journal, or says why not; from a background thread.
  std::function<result<void>(const pb::JournalSet&)> format_journal = {};
  // The cloud's daemons; null: it has this one alone.
  std::shared_ptr<DaemonPlaces> places = {};
  KnownDaemon self = {};  // this one, of a cloud with a journal
  // While it does not hold, mounts are answered nothing; null: it always does.
  std::shared_ptr<LeaderLease> lease = {};
  std::function<void()> lease_changed = {};  // its length
  std::function<void()> stand_down = {};     // the leadership was given up: become a standby
  std::function<void()> start_anew = {};     // the daemon reads its records as after a restart
  // The metadata store has failed: nothing more can be promised. Stops the daemon.
  std::function<void(const Error&)> fatal;
};

}  // namespace datacloud
