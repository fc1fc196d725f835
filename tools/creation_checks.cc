// What must hold before a cloud is made (cloud_creation.h). Every problem is reported at once, so
// that five wrong paths take one attempt to correct, not five.
#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>

#include "common/crypto/keys.h"
#include "common/net/address.h"
#include "common/site/site_set.h"
#include "common/store/rados/rados_store.h"
#include "daemon/metadata/state_directory.h"
#include "tools/cloud_creation.h"

namespace datacloud {
namespace {

// What tells places apart (device and inode; cluster, pool and namespace), and whose they are.
using Places = std::map<std::string, std::string>;

// Empty: there is no other marker.
std::string marker_problem(const SiteConfig& site, const std::string& where) {
  auto marker = read_store_marker(site);
  if (marker) {
    return fmt::format(
        "{} already holds site {} of cloud {} (uuid {}); use that cloud, or empty it if its data "
        "may be lost",
        where, marker.value().site_name, marker.value().cloud_name, marker.value().cloud_uuid);
  }
  if (marker.error().is(Errc::not_found)) return {};
  return fmt::format(
      "{} holds a site whose marker cannot be read ({}); empty it if its data may be lost", where,
      marker.error().text());
}

std::string pool_problem(const SiteConfig& site, Places& seen) {
  const std::string where = fmt::format("site {} (pool {} of the cluster of {})", site.name,
                                        site.pool, site.conf.string());
  const auto identity = identify_rados(rados_options(site, {}));
  if (!identity) return fmt::format("{}: {}", where, identity.error().text());
  const std::string place =
      fmt::format("{}/{}/{}", identity.value().cluster, identity.value().pool, site.nspace);
  if (auto [it, fresh] = seen.try_emplace(place, site.name); !fresh) {
    return fmt::format("{} is the same pool as site {}; each site needs its own", where,
                       it->second);
  }
  // Without a namespace of its own it gets that of the new cloud, which nobody can have used.
  return site.nspace.empty() ? std::string() : marker_problem(site, where);
}

std::string directory_problem(const SiteConfig& site, Places& seen) {
  const std::string where = fmt::format("site {} ({})", site.name, site.path.string());
  struct stat st {};
  if (::stat(site.path.c_str(), &st) != 0) {
    if (errno == ENOENT) return where + " does not exist; create it, or mount its file system";
    return fmt::format("{}: {}", where, std::strerror(errno));
  }
  if (!S_ISDIR(st.st_mode)) return where + " is not a directory";
  const std::string place = fmt::format("{}:{}", st.st_dev, st.st_ino);
  if (auto [it, fresh] = seen.try_emplace(place, site.name); !fresh) {
    return fmt::format("{} is the same directory as site {}; each site needs its own", where,
                       it->second);
  }
  return marker_problem(site, where);
}

// Empty: the site can be formatted as far as one can see.
std::string site_problem(const SiteConfig& site, Places& seen) {
  if (site.store == "rados") return pool_problem(site, seen);
  if (site.store == "directory") return directory_problem(site, seen);
  if (site.store == "remote") return {};  // nobody serves it yet
  return fmt::format("site {}: a store of type \"{}\" cannot be created", site.name, site.store);
}

// Servers of sites ask the daemon which nodes count.
void find_no_address(const Config& config, std::vector<std::string>& problems) {
  for (const auto& address : config.daemon.listen)
    if (is_tls_address(address)) return;
  for (const auto& site : config.sites) {
    if (site.store != "remote") continue;
    problems.push_back(
        fmt::format("site {} is served by another machine, which has to reach this daemon: add "
                    "\"tls://HOST:PORT\" to [daemon] listen",
                    site.name));
    return;
  }
}

bool is_empty_or_absent(const std::filesystem::path& directory) {
  std::error_code ec;
  const bool empty = std::filesystem::is_empty(directory, ec);
  return empty || ec == std::errc::no_such_file_or_directory;
}

void find_key_files(const Config& config, std::vector<std::string>& problems) {
  const std::pair<std::filesystem::path, KeyFileKind> files[] = {
      {config.keys.data, KeyFileKind::data}, {config.keys.service, KeyFileKind::service}};
  for (const auto& [path, kind] : files) {
    struct stat st {};
    if (::lstat(path.c_str(), &st) != 0) continue;
    auto key = read_key_file(path, kind);
    problems.push_back(fmt::format(
        "key file {} exists ({}); keys are never overwritten: move it away, or name another in "
        "[keys]",
        path.string(), key ? "of cloud " + key.value().cloud_uuid : key.error().text()));
  }
}

}  // namespace

result<void> check_creation(const Config& config) {
  std::vector<std::string> problems;
  Places seen;
  if (config.sites.empty()) problems.push_back("the configuration has no [[site]]");
  for (const auto& site : config.sites) {
    if (auto problem = site_problem(site, seen); !problem.empty()) problems.push_back(problem);
  }
  find_no_address(config, problems);
  find_key_files(config, problems);
  if (const auto metadata = metadata_directory(config.daemon); !is_empty_or_absent(metadata)) {
    problems.push_back(fmt::format(
        "{} already holds metadata; name another [daemon] state directory, or remove it if that "
        "cloud may be lost",
        metadata.string()));
  }
  if (problems.empty()) return success();
  return failure(Errc::invalid,
                 fmt::format("no cloud was created:\n  {}", fmt::join(problems, "\n  ")));
}

}  // namespace datacloud
