// The configuration of a node, as text: what all nodes share, and what is its own.
#pragma once

#include <string>
#include <vector>

#include "common/config/config.h"
#include "tools/ceph_users.h"

namespace datacloud {

// The [[site]] tables, as this machine has them; directories that it serves as others reach them.
// RADOS sites of `users` have that user, and a line in place of the keyring: place_keyrings().
// Served ones with the identity of their servers, where an organisation has certified them.
std::string shared_configuration(const Config&, const std::vector<CephUser>& users = {});

// What `shared` says of keyrings, on the node that it came to.
struct PlacedKeyrings {
  struct File {
    std::filesystem::path path;
    std::string text;  // empty: somebody has to put it there
    std::string entity;
  };
  std::string shared;  // with the files' paths
  std::vector<File> files;
};
// corrupt: a line of keyrings is not in the format.
result<PlacedKeyrings> place_keyrings(const std::string& shared,
                                      const std::filesystem::path& directory,
                                      const std::string& cloud);

struct NodeFiles {
  std::filesystem::path configuration, key, certificate, authority, data_key, organisation;
};
// In `directory`, of the cloud of that name.
NodeFiles node_files(const std::filesystem::path& directory, const std::string& cloud);

// How nodes know servers that the organisation has certified; all empty: none is.
struct OrganisationOfServers {
  std::string authorities;          // PEM
  std::vector<std::string> daemon;  // its identities; empty: the cloud certifies it
};
// As this machine has it. invalid: a file of it is not good.
result<OrganisationOfServers> organisation_of_servers(const Config&);

// The whole file. Without data key: the node does not mount.
std::string node_configuration(const std::string& cloud, const std::string& node,
                               const std::vector<std::string>& daemon, const NodeFiles&,
                               bool has_data_key, const std::string& shared,
                               const OrganisationOfServers& = {});

}  // namespace datacloud
