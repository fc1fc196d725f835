// The tables of sites (config_sites.h): what each kind of storage needs.
#include "common/config/config_sites.h"

#include <set>
#include <utility>

#include "common/config/metrics_address.h"
#include "common/net/address.h"
#include "common/tls/node_identity.h"
#include "common/tls/server_certificate.h"

namespace datacloud {

result<void> read_shown(ConfigSection& s, ShownCertificate& shown) {
  const bool certificate = s.find("certificate") != nullptr, key = s.find("key") != nullptr;
  if (!certificate && !key) return success();
  if (!certificate || !key)
    return failure(s.missing(certificate ? "key" : "certificate",
                             "a certificate of your organisation's needs both"));
  TRY(s.absolute_path("certificate", shown.certificate));
  return s.absolute_path("key", shown.key);
}

namespace {

result<void> read_rados_site(ConfigSection& s, SiteConfig& site) {
  TRY(s.absolute_path("conf", site.conf));
  TRY(s.text("user", site.user));
  if (!site.user.starts_with("client.") || !valid_config_name(site.user))
    return failure(
        s.error("user", in_quotes(site.user) + " cannot be a Ceph user; write \"client.NAME\""));
  if (s.find("keyring") != nullptr) {
    TRY(s.absolute_path("keyring", site.keyring));
  }
  TRY(s.text("pool", site.pool));
  if (site.pool.empty()) return failure(s.missing("pool", "name the pool of the Ceph cluster"));
  if (!valid_config_name(site.pool))
    return failure(s.error("pool", in_quotes(site.pool) + " cannot name a pool; " + kNameRule));
  TRY(s.text("namespace", site.nspace));
  if (!site.nspace.empty() && !valid_config_name(site.nspace))
    return failure(s.error("namespace",
                           in_quotes(site.nspace) + " cannot be a RADOS namespace; " + kNameRule));
  return success();
}

result<void> read_window(ConfigSection& s, SiteConfig& site) {
  constexpr uint64_t MiB = 1u << 20;
  if (s.find("window_bytes") == nullptr) return success();
  uint64_t bytes = 0;
  TRY(s.number("window_bytes", bytes, 0, kSiteWindowBytesMax, parse_bytes));
  if (bytes != 0 && bytes < MiB)
    return failure(
        s.error("window_bytes", "window_bytes is 0, for no shared memory, or at least 1 MiB"));
  site.window_bytes = bytes;
  return success();
}

// "tls://HOST:PORT" of a site; one to connect to has a host of its own.
result<void> read_site_address(ConfigSection& s, const char* key, bool to_connect,
                               std::string& value) {
  TRY(s.text(key, value));
  if (value.empty()) return success();
  const auto address = parse_tls_address(value);
  if (!address) return failure(s.error(key, std::string(key) + " " + address.error().text()));
  if (to_connect && is_wildcard(address.value()))
    return failure(s.error(key, std::string(key) + " is " + in_quotes(value) +
                                    ", which is none to connect to; name the host"));
  return success();
}

result<void> read_directory_site(ConfigSection& s, SiteConfig& site) {
  TRY(s.absolute_path("path", site.path));
  TRY(read_site_address(s, "serve", false, site.serve));
  TRY(read_site_address(s, "address", true, site.address));
  TRY(s.texts("identity", kIdentitiesMax, check_server_identity, site.identity));
  TRY(read_shown(s, site.shown));
  TRY(read_window(s, site));
  TRY(s.text("metrics", site.metrics));
  if (!site.metrics.empty()) {
    if (auto good = check_metrics_address(site.metrics); !good)
      return failure(s.error("metrics", good.error().text()));
    if (site.serve.empty())
      return failure(s.error("metrics",
                             "only a site that is served here has metrics of its own; "
                             "set \"serve\", or leave metrics out"));
  }
  for (const char* key : {"certificate", "identity", "window_bytes"}) {
    if (site.serve.empty() && s.find(key) != nullptr)
      return failure(s.error(key, std::string(key) +
                                      " is of a site that is served here; set \"serve\", or leave "
                                      "it out"));
  }
  if (site.serve.empty() && !site.address.empty())
    return failure(s.error("address",
                           "a directory site has an address when it is served; set "
                           "\"serve\", or make it store = \"remote\" where the "
                           "directory is not"));
  return success();
}

result<void> read_remote_site(ConfigSection& s, SiteConfig& site) {
  TRY(read_site_address(s, "address", true, site.address));
  if (site.address.empty())
    return failure(s.missing("address", "set it to the \"tls://HOST:PORT\" of the site's server"));
  if (!valid_node_name(site.name))
    return failure(s.error("name", in_quotes(site.name) + " cannot name a served site, whose name "
                                                          "begins with a letter or digit"));
  TRY(s.texts("identity", kIdentitiesMax, check_server_identity, site.identity));
  return read_window(s, site);
}

result<void> read_site(ConfigSection s, SiteConfig& site) {
  TRY(s.text("name", site.name));
  if (site.name.empty()) return failure(s.missing("name", "give every site a name"));
  if (!valid_config_name(site.name))
    return failure(s.error("name", in_quotes(site.name) + " cannot name a site; " + kNameRule));
  TRY(s.text("store", site.store));
  if (site.store.empty())
    return failure(s.missing("store", "set it to \"directory\", \"remote\" or \"rados\""));
  if (site.store == "directory") {
    TRY(read_directory_site(s, site));
  } else if (site.store == "remote") {
    TRY(read_remote_site(s, site));
  } else if (site.store == "rados") {
    TRY(read_rados_site(s, site));
  } else if (site.store != "memory") {
    return failure(s.error("store", "unknown store " + in_quotes(site.store) +
                                        "; it must be \"directory\", \"remote\" or \"rados\""));
  }
  return s.refuse_unknown();
}

}  // namespace

result<void> read_sites(ConfigSection& root, const std::string& file,
                        std::vector<SiteConfig>& sites) {
  const toml::node* node = root.find("site");
  const toml::array* list = node != nullptr ? node->as_array() : nullptr;
  if (list == nullptr || list->empty() || !list->is_homogeneous(toml::node_type::table))
    return failure(root.error("site", "a cloud has at least one site; add a [[site]] table"));
  if (list->size() > kSitesMax)
    return failure(root.error("site", "a cloud has at most " + std::to_string(kSitesMax) +
                                          " sites, not " + std::to_string(list->size())));
  std::set<std::string> names;
  std::set<std::filesystem::path> paths;
  std::set<std::string> pools, addresses;
  for (const auto& item : *list) {
    const toml::table& table = *item.as_table();
    SiteConfig site;
    ConfigSection section(table, "[[site]]", file);
    TRY(read_site(section, site));
    if (!names.insert(site.name).second)
      return failure(section.error("name", "two sites are named " + in_quotes(site.name) +
                                               "; every site needs a name of its own"));
    if (site.store == "directory" && !paths.insert(site.path.lexically_normal()).second)
      return failure(section.error("path", "two sites have the path " +
                                               in_quotes(site.path.string()) +
                                               "; every site needs a place of its own"));
    if (site.store == "rados" &&
        !pools.insert(site.conf.lexically_normal().string() + "\n" + site.pool + "\n" + site.nspace)
             .second)
      return failure(section.error("pool", "two sites have the conf, pool and namespace of " +
                                               in_quotes(site.pool) +
                                               "; every site needs a place of its own"));
    for (const auto& address : {site.serve, site.store == "remote" ? site.address : ""}) {
      if (!address.empty() && !addresses.insert(address).second)
        return failure(section.error("address", "two sites have the address " + in_quotes(address) +
                                                    "; every served site needs a port of its own"));
    }
    sites.push_back(std::move(site));
  }
  return success();
}

}  // namespace datacloud
