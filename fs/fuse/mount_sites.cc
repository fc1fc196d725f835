// Sites that join, are drained and leave while this mount runs: what each keepalive's answer says.
//
// A site that has joined is looked up in the configuration file as it is by now. Where that does
// not name it yet, the mount goes on without: what is there reads as lost and is decoded from the
// rest.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "common/base/log.h"
#include "common/proto/admin.pb.h"
#include "fs/fuse/mount.h"

namespace datacloud {
namespace {

constexpr auto kAskAgain = seconds(10);  // for a site that could not be used

}  // namespace

void Mount::apply_duties(const google::protobuf::RepeatedPtrField<pb::SiteInfo>& infos) {
  if (infos.empty()) return;  // a cloud has sites
  std::set<SiteId> active;
  for (const auto& info : infos) {
    if (info.duty() == pb::SITE_ACTIVE) active.insert(info.id());
  }
  for (Site* site : sites_->all()) site->set_takes_shards(active.contains(site->id()));
}

void Mount::follow_sites(const google::protobuf::RepeatedPtrField<pb::SiteInfo>& infos) {
  if (infos.empty()) return;  // a cloud has sites
  std::set<SiteId> known;
  const auto now = monotonic_now();
  for (const auto& info : infos) {
    known.insert(info.id());
    if (sites_->find(info.id()) != nullptr) continue;
    auto& ask = ask_again_[info.id()];
    if (now < ask) continue;
    ask = now + kAskAgain;
    if (auto joined = join_site(info); !joined) {
      spdlog::warn("site {} has joined the cloud, but this mount cannot use it: {}", info.name(),
                   joined.error().message());
    }
  }
  for (Site* site : sites_->all()) {
    if (known.contains(site->id())) continue;
    spdlog::info("site {} has left the cloud", site->name());
    sites_->retire(site->id());
  }
  std::erase_if(ask_again_, [&](const auto& entry) { return !known.contains(entry.first); });
  apply_duties(infos);
}

result<SiteSet::Member> Mount::open_site(const Config& config, const pb::SiteInfo& info) const {
  const auto it = std::find_if(config.sites.begin(), config.sites.end(),
                               [&](const SiteConfig& s) { return s.name == info.name(); });
  if (it == config.sites.end()) {
    return failure(Errc::invalid,
                   fmt::format("site \"{}\" of the cloud is not in {}; add its [[site]] section",
                               info.name(), config.file.string()));
  }
  SiteSet::Member member{info.id(), info.name(), nullptr};
  SiteConfig site = *it;
  site.service_key.clear();  // is the daemon's: a mount that uses served sites is a node
  TRY(member.store, open_store(site, marker_of(cloud_, info)));
  return member;
}

result<void> Mount::join_site(const pb::SiteInfo& info) {
  TRY(const auto config, load_config(config_.file));
  TRY(auto member, open_site(config, info));
  pb::AdminRequest asked;
  asked.mutable_site_key()->set_site(info.id());
  pb::Request request;
  request.set_admin(asked.SerializeAsString());
  TRY(const auto reply, client_->call(std::move(request)));
  pb::AdminReply answer;
  if (!answer.ParseFromString(reply.admin()) || answer.site_key().key().size() != 32) {
    return failure(Errc::corrupt,
                   "the daemon sent no audit key; install the same version on both sides");
  }
  tags_->add(info.id(), SecretKey(as_bytes(answer.site_key().key())));
  if (!sites_->add(std::move(member))) {
    return failure(Errc::no_space, "too many sites have come and gone; mount again");
  }
  spdlog::info("site {} has joined the cloud", info.name());
  return success();
}

}  // namespace datacloud
