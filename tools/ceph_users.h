// A Ceph user for each node: what `node add` and `node revoke` run, or print, at the clusters of
// the cloud's RADOS sites. By ceph(8), which has to be installed where it is run, and a keyring
// that may make users.
#pragma once

#include <string>
#include <vector>

#include "common/config/config.h"

namespace datacloud {

struct CephUser {
  std::string site;
  std::filesystem::path conf;
  std::string entity;        // "client.datacloud.gpu07"
  std::string capabilities;  // of its OSDs
  std::string key;           // once made
};

// One for each RADOS site of the configuration. `read_only`: for nodes that change nothing.
std::vector<CephUser> ceph_users_of(const Config&, const std::string& node,
                                    const std::string& cloud_uuid, bool read_only);

// As a person would type them. `keyring`: also write the key to that file.
std::string creation_command(const CephUser&, const std::string& keyring);
std::string removal_command(const CephUser&);

// Whose rights the commands are run with: `keyrings` are files, each for all sites or, as
// SITE=FILE, for one. invalid: a file is not there, a site is not known, or has no keyring.
class CephAdministrator {
 public:
  static result<CephAdministrator> make(const std::vector<std::string>& keyrings,
                                        const std::vector<CephUser>& users);
  // Fills in the key. A user that exists with these capabilities is taken as it is.
  result<void> create(CephUser&) const;
  // Also success when there is none.
  result<void> remove(const CephUser&) const;

 private:
  result<std::string> run(const CephUser&, const std::vector<std::string>& words) const;

  std::string everywhere_;
  std::vector<std::pair<std::string, std::string>> of_sites_;
};

}  // namespace datacloud
