// Where the daemons of a cloud are, as a machine knows it: its configuration, the file of what was
// last told (common/config/daemons_file.h), and the leader's record at the sites when nobody of
// these leads.
//
// The file is written, and the sites are read, on threads of their own; a failure of either is
// logged and changes nothing. A newer leadership's places are never replaced by an older one's.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>

#include "common/base/clock.h"
#include "common/config/config.h"
#include "common/config/daemons_file.h"
#include "common/rpc/known_addresses.h"
#include "common/rpc/rpc.h"

namespace datacloud {

class DaemonFinder final : public KnownAddresses,
                           public std::enable_shared_from_this<DaemonFinder> {
 public:
  enum class Keep { no, yes };  // what is told, in the file
  struct Times {
    Duration pause = seconds(3);      // between two looks at the sites
    Duration patience = seconds(15);  // of one: far clusters take seconds to connect to
    Duration grace = seconds(1);      // for a newer record, once there is one
  };
  static std::shared_ptr<DaemonFinder> make(const Config&, Keep);
  static std::shared_ptr<DaemonFinder> make(const Config&, Keep, Times);

  void told(const pb::HelloReply&, bool local) override;
  void told(const pb::KeepaliveReply&, bool local) override;
  void unreachable() override;

 private:
  DaemonFinder(const Config&, Keep, Times);
  void keep();
  void write();
  void search();

  const std::filesystem::path path_;
  const std::vector<SiteConfig> sites_;
  const bool keep_;
  const Times times_;
  std::mutex finding_;  // the members below
  DaemonsFile known_;   // its daemons are those of KnownAddresses
  bool has_key_ = false;
  bool searching_ = false, writing_ = false, dirty_ = false, failed_ = false;
  MonotonicTime search_again_{};
};

// set_daemon(), and what is known of the daemons beside the configuration. Tools and servers of
// sites on a machine with the service key show a certificate that they make with it, should the
// leader be elsewhere; a mount never reads that key. Mounts and servers of sites keep the file.
enum class FindsFor { mount, tool, site_server };
void find_daemon(const Config&, FindsFor, RpcClient::Options&);

}  // namespace datacloud
