// The real Ceph clusters the RADOS tests run on, as their administrator sees them.
//
// The environment variable DATACLOUD_CEPH_SITES names a directory with siteN/ceph.conf and
// siteN/ceph.client.admin.keyring (tests/support/with-ceph-sites.sh sets it). Without it the tests
// fail: a run without clusters proves nothing.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <rados/librados.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/store/rados/rados_store.h"
#include "tests/support/store_calls.h"
#include "tests/support/temporary_directory.h"

namespace datacloud {

// Throws when something is not as it should be.
class CephSite {
 public:
  static constexpr const char* kUser = "client.datacloud-test";

  // $DATACLOUD_CEPH_SITE says which one (1): tests that run at a time use different clusters.
  CephSite() {
    const char* number = std::getenv("DATACLOUD_CEPH_SITE");
    const char* sites = std::getenv("DATACLOUD_CEPH_SITES");
    if (sites == nullptr) {
      throw std::runtime_error(
          "DATACLOUD_CEPH_SITES is not set: run this through tests/support/with-ceph-sites.sh 1 "
          "--");
    }
    sites_ = sites;
    name_ = std::string("site") + (number == nullptr ? "1" : number);
    directory_ = sites_ + "/" + name_;
    expect(admin_.init2("client.admin", "ceph", 0), "init");
    expect(admin_.conf_read_file(conf().c_str()), "reading " + conf());
    expect(admin_.conf_set("keyring", (directory_ + "/ceph.client.admin.keyring").c_str()), "conf");
    expect(admin_.conf_set("client_mount_timeout", "20"), "conf");
    expect(admin_.conf_set("rados_osd_op_timeout", "20"), "conf");
    expect(admin_.connect(), "connecting to " + conf());
  }
  ~CephSite() { admin_.shutdown(); }

  std::string conf() const { return directory_ + "/ceph.conf"; }

  std::string command(const nlohmann::json& json) {
    librados::bufferlist in, out;
    std::string status;
    expect(admin_.mon_command(json.dump(), in, &out, &status), json.dump() + ": " + status);
    return out.to_str();
  }

  librados::IoCtx open(const std::string& pool, const std::string& nspace) {
    librados::IoCtx io;
    expect(admin_.ioctx_create(pool.c_str(), io), "pool " + pool);
    io.set_namespace(nspace);
    return io;
  }

  // Name of a k=2 m=1 pool, made when it is not there.
  std::string erasure_coded_pool() {
    const std::string name = "datacloud-ec";
    if (command({{"prefix", "osd pool ls"}}).find(name) != std::string::npos) return name;
    const std::string script = DATACLOUD_SOURCE_DIR "/tests/support/ceph-sites.sh";
    const std::string words = " ec-pool --dir " + sites_ + " " + name_ + " " + name;
    if (std::system((script + words).c_str()) != 0) {
      throw std::runtime_error("cannot make an erasure-coded pool");
    }
    return name;
  }

  // A site in a namespace of its own, used by a user with the capabilities we document.
  RadosOptions options(const std::string& pool, const std::string& nspace,
                       const std::string& rights = "rwx") {
    RadosOptions options;
    options.site = "ceph";
    options.conf = conf();
    options.pool = pool;
    options.nspace = nspace;
    options.expected = test_marker();
    use(options, kUser + ("-" + pool + "-" + rights), nspace, rights);
    return options;
  }

  void use(RadosOptions& options, const std::string& user, const std::string& nspace,
           const std::string& rights = "rwx") {
    const std::string caps = "allow " + rights + " pool=" + options.pool + " namespace=" + nspace;
    command({{"prefix", "auth add"}, {"entity", user}, {"caps", {"mon", "allow r", "osd", caps}}},
            true);
    command({{"prefix", "auth caps"}, {"entity", user}, {"caps", {"mon", "allow r", "osd", caps}}});
    options.user = user;
    options.keyring = keys_.path() / user;
    std::ofstream(options.keyring) << command({{"prefix", "auth get"}, {"entity", user}});
  }

  // The processes of the site's OSD, found by the site's directory in their command lines.
  std::vector<pid_t> osd_processes() const {
    std::vector<pid_t> found;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      std::ifstream file(entry.path() / "cmdline", std::ios::binary);
      const std::string words(std::istreambuf_iterator<char>(file), {});
      if (words.starts_with("ceph-osd") && words.find(directory_ + "/") != std::string::npos) {
        found.push_back(std::stoi(entry.path().filename()));
      }
    }
    if (found.empty()) throw std::runtime_error("no ceph-osd runs for " + directory_);
    return found;
  }

  // A namespace nobody has used.
  static std::string fresh_namespace() {
    static int count = 0;
    return "test-" + std::to_string(::getpid()) + "-" + std::to_string(++count) + "-" +
           std::to_string(std::random_device()());
  }

 private:
  void command(const nlohmann::json& json, bool may_fail) {
    librados::bufferlist in, out;
    const int rc = admin_.mon_command(json.dump(), in, &out, nullptr);
    if (!may_fail) expect(rc, json.dump());
  }

  static void expect(int rc, const std::string& what) {
    if (rc < 0) throw std::runtime_error(what + ": " + std::generic_category().message(-rc));
  }

  std::string sites_, name_, directory_;
  librados::Rados admin_;
  TemporaryDirectory keys_;
};

}  // namespace datacloud
