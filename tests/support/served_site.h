// A directory site behind its server in this process, for tests: over loopback, with real TLS.
#pragma once

#include <filesystem>
#include <stdexcept>

#include "common/store/directory_store.h"
#include "common/store/remote/remote_store.h"
#include "common/store/remote/site_server.h"
#include "common/store/store_decorators.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tls_rig.h"

namespace datacloud {

class ServedSite {
 public:
  explicit ServedSite(const std::string& name = "oslo", bool formatted = true,
                      const std::filesystem::path& parent = TemporaryDirectory::fast_parent())
      : name_(name), port_(free_port()), directory_(parent) {
    if (!formatted) return;
    auto made = format_directory(*make_posix_file_layer(), root(), marker());
    if (!made) throw std::runtime_error(made.error().message());
  }

  TestCloud cloud;
  SiteServerLimits limits;
  FaultRule faults;  // of the server's store
  SiteLogService* log = nullptr;
  std::shared_ptr<NodesInForce> nodes;
  std::shared_ptr<CertifiedNodes> certified;
  NodeRoles server_roles = NodeRole::site;
  bool on_this_machine = false;  // stores go on by the local socket
  std::unique_ptr<SiteServer> server;

  SiteMarker marker(uint32_t id = 1) const {
    return {cloud.authority.cloud_uuid(), "demo", name_, id, 1};
  }
  std::string root() const { return directory_.path() / "site"; }
  std::string address() const { return "tls://127.0.0.1:" + std::to_string(port_); }

  void start() {
    SiteServerOptions options;
    options.cloud_uuid = cloud.authority.cloud_uuid();
    options.site = name_;
    options.listen = {address()};
    options.context = [this, shown = std::shared_ptr<const TlsContext>()]() mutable
        -> result<std::shared_ptr<const TlsContext>> {
      if (!shown) {
        TRY(shown,
            TlsContext::make(TlsContext::Side::server, cloud.credentials(name_, server_roles)));
      }
      return shown;
    };
    options.open = [this](const SiteMarker& expected) -> result<std::unique_ptr<ObjectStore>> {
      auto store = make_directory_store({root(), expected, 4, nullptr});
      return faults ? make_fault_store(std::move(store), faults) : std::move(store);
    };
    options.marker = [this] { return read_directory_marker(*make_posix_file_layer(), root()); };
    options.format = [this](const SiteMarker& wanted) {
      return format_directory(*make_posix_file_layer(), root(), wanted);
    };
    options.log = log;
    options.limits = limits;
    options.nodes = nodes;
    options.certified = certified;
    auto started = SiteServer::start(std::move(options));
    if (!started) throw std::runtime_error(started.error().message());
    server = std::move(started).value();
  }
  void stop() { server.reset(); }

  RemoteStoreOptions options_for(NodeRoles roles = NodeRole::mount) const {
    RemoteStoreOptions options;
    options.site = name_;
    options.address = address();
    options.expected = marker();
    if (!on_this_machine) options.window_bytes = 0;
    options.context =
        [context = cloud.node("gpu07", roles)]() -> result<std::shared_ptr<const TlsContext>> {
      return context;
    };
    return options;
  }
  std::unique_ptr<ObjectStore> open(NodeRoles roles = NodeRole::mount) const {
    return make_remote_store(options_for(roles));
  }

 private:
  const std::string name_;
  const uint16_t port_;
  const TemporaryDirectory directory_;
};

}  // namespace datacloud
