// Wiring of a mount, and its end.
#include "fs/fuse/mount.h"

#include <linux/fuse.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "common/base/log.h"
#include "common/site/daemon_finder.h"
#include "fs/fuse/mount_metrics.h"
#include "fs/fuse/mount_point.h"
#include "fs/fuse/raw/caller.h"

namespace datacloud {
namespace {

constexpr auto kStopPatience = seconds(60);
constexpr double kEntrySecondsWithoutEpochs = 0.0;

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "unknown";
}

}  // namespace

Mount::Mount(const Config& config, SecretKey data_key)
    : config_(config),
      data_key_(std::move(data_key)),
      channel_({.flags = FUSE_PARALLEL_DIROPS | FUSE_SETXATTR_EXT}) {}

result<std::unique_ptr<Mount>> Mount::open(const Config& config, const std::string& site_name,
                                           const std::string& mountpoint,
                                           const std::string& directory) {
  if (config.keys.data.empty())
    return failure(Errc::invalid, config.file.string() +
                                      " names no data key: this node's role is "
                                      "not to mount");
  TRY(auto key, read_key_file(config.keys.data, KeyFileKind::data));
  std::unique_ptr<Mount> mount(new Mount(config, key.key));
  mount->mountpoint_ = mountpoint;
  TRY(mount->connect(mountpoint, directory));
  if (mount->cloud_.uuid() != key.cloud_uuid)
    return failure(Errc::invalid, config.keys.data.string() + " is the key of cloud " +
                                      key.cloud_uuid + ", but the daemon serves cloud " +
                                      mount->cloud_.uuid() + "; check [keys] data in " +
                                      config.file.string());
  TRY(mount->build(site_name));
  return mount;
}

result<void> Mount::connect(const std::string& mountpoint, const std::string& directory) {
  // Each may wait for sites and for the kernel.
  recalls_ = std::make_unique<Executor>(16, 1024);
  RpcClient::Options options;
  find_daemon(config_, FindsFor::mount, options);
  const SecretKey secret = SecretKey::random();
  options.session.set_secret(std::string(as_text(secret.view())));
  options.kind = pb::CLIENT_MOUNT;
  options.session.set_host(host_name());
  options.session.set_pid(static_cast<uint32_t>(getpid()));
  options.session.set_mountpoint(mountpoint);
  options.session.set_version(DATACLOUD_VERSION);
  for (const auto& known : known_features()) options.session.add_features(std::string(known.name));
  options.deadline = milliseconds(config_.mount.rpc_deadline_ms);
  options.on_push = [this](const pb::Push& push) { on_push(push); };
  options.on_resume = [this](pb::HelloRequest& hello) { present_leases(hello); };
  options.on_session = [this](const pb::HelloReply& hello) { on_session(hello); };
  pb::HelloReply hello;
  Keeping keeping;
  keeping.bytes_max = config_.mount.kept_bytes_max;
  keeping.on_redone = [this](const pb::Request& request, result<pb::Reply> reply) {
    redone(request, reply);
  };
  TRY(client_, connect_session(std::move(options), &hello, std::move(keeping)));
  inode_numbers_ = std::make_unique<InodeNumbers>(*client_);
  cloud_ = hello.cloud();
  lease_ = milliseconds(hello.lease_ms());
  read_only_ = hello.read_only();
  TRY(adopt_features(hello.features()));
  namer_ = std::make_unique<ShardNamer>(as_bytes(hello.name_key()));
  std::map<SiteId, SecretKey> audit_keys;
  for (const auto& key : hello.audit_keys()) {
    if (key.key().size() == 32) audit_keys[key.site()] = SecretKey(as_bytes(key.key()));
  }
  for (const auto& site : cloud_.sites()) {
    if (audit_keys.contains(site.id())) continue;
    return failure(Errc::invalid, "the daemon gives no audit key of site " + site.name() +
                                      "; install the same version on both sides");
  }
  tags_ = std::make_shared<ShardTags>(audit_keys);
  metadata_ = std::make_unique<MetadataClient>(*client_, table_);
  locks_ = std::make_unique<FileLocks>(*client_);
  return find_root(hello.root() != 0 ? hello.root() : kRootInode, directory);
}

// What the mount shows: of what this node may see, the directory that was asked for.
result<void> Mount::find_root(InodeId root, const std::string& directory) {
  seen_ = root;
  for (size_t at = 0; at < directory.size();) {
    const size_t end = std::min(directory.find('/', at), directory.size());
    const std::string name = directory.substr(at, end - at);
    at = end + 1;
    if (name.empty() || name == ".") continue;
    pb::Request request;
    request.mutable_lookup()->set_parent(root);
    request.mutable_lookup()->set_name(name);
    auto found = name == ".." ? result<MetadataClient::Answer>(
                                    failure(Errc::invalid, "a path without \"..\" is needed"))
                              : metadata_->call(std::move(request));
    if (found && !S_ISDIR(found.value().reply.attr().inode().mode()))
      found = failure(Error::posix(ENOTDIR, "\"" + name + "\" is not a directory"));
    if (!found) {
      pb::Request goodbye;  // the daemon does not see processes of other machines end
      goodbye.mutable_goodbye();
      (void)client_->call(std::move(goodbye));
      return failure(found.error().in("cannot mount " + directory + " of the cloud"));
    }
    root = found.value().reply.attr().inode().ino();
  }
  root_ = root;
  table_.set_root(root);
  kernel_.set_root(root);
  channel_.set_root(root);
  space_.set_root(root);
  return success();
}

result<void> Mount::build(const std::string& site_name) {
  std::vector<SiteSet::Member> members;
  SiteId local = 0;
  for (const auto& info : cloud_.sites()) {
    if (tags_->tagger(info.id()) == nullptr)
      return failure(Errc::unsupported, "the daemon gave no audit key of site \"" + info.name() +
                                            "\"; install the same version on both sides");
    TRY(auto member, open_site(config_, info));
    members.push_back(std::move(member));
    if (info.name() == site_name) local = info.id();
  }
  if (!site_name.empty() && !local)
    return failure(Errc::invalid, "-o site=" + site_name + ": the cloud has no site of that name");
  sites_ = std::make_unique<SiteSet>(std::move(members));
  apply_duties(cloud_.sites());
  sites_->check_all(seconds(2));
  const auto all = sites_->all();
  const auto live = std::count_if(all.begin(), all.end(), [](Site* s) { return s->up(); });
  // Far clusters take a dozen round trips to connect to; before that nothing could be written.
  if (static_cast<uint32_t>(live) < cloud_.write_sites_min()) sites_->check_all(seconds(10));

  const MountConfig& limits = config_.mount;
  sealer_ = std::make_unique<BlockSealer>(data_key_, cloud_.uuid());
  cpu_ = std::make_unique<Executor>(2, 1024);
  cache_ = std::make_unique<BlockCache>(limits.cache_bytes_max);
  ids_ = std::make_unique<IdPool>(*client_);
  auto on_damage = [this](std::vector<pb::Damage> found) {
    pb::Request request;
    for (auto& damage : found) *request.mutable_damage()->add_found() = std::move(damage);
    client_->call(std::move(request), [](result<pb::Reply>) {});
  };
  stripe_reader_ = std::make_unique<StripeReader>(
      StripeReader::Dependencies{*sites_, *namer_, *sealer_, *cpu_, limits, local, on_damage});
  reader_ = std::make_unique<BlockReader>(BlockReader::Dependencies{
      *client_, *cache_, *stripe_reader_, *sites_, limits, sealer_.get()});
  pipeline_ = std::make_unique<WritePipeline>(WritePipeline::Dependencies{
      *client_, *sites_, *namer_, *sealer_, *ids_, cloud_, limits, tags_});
  auto nudge = [this] {
    {
      std::lock_guard lock(mutex_);
      nudged_ = true;
    }
    wake_.notify_all();
  };
  auto forget_pages = [this](InodeId ino) {
    if (const InodePtr inode = table_.find(ino)) (void)drop_kernel_pages(inode);
  };
  auto drop_pages = [this](const InodePtr& inode) {
    later([this, inode] {
      kernel_.forget_pages_and_attributes(inode->ino);
      io_->pages_dropped(inode);
    });
  };
  io_ = std::make_unique<FileIo>(FileIo::Dependencies{
      *metadata_, *reader_, *pipeline_, *sites_, limits, cloud_.write_sites_min(), nudge,
      forget_pages, drop_pages, [this] { return time_range(); },
      [this] { return features().has(Feature::inline_data); }});
  sites_->on_change([](Site& site) {
    if (site.up())
      spdlog::info("site {} is back", site.name());
    else
      spdlog::warn("site {} is away: {}", site.name(), site.away_reason());
  });
  return success();
}

void Mount::start(fuse_session* session) {
  kernel_.attach(session);
  metadata_->on_unwitnessed([this](const MetadataClient::Unwitnessed& news) {
    for (const InodeId ino : news.inodes) xattrs_.forget(ino);
    later([this, news] { tell_kernel(news); });
  });
  inode_numbers_->refill();
  remember_root_and_space();
  flusher_ = std::thread([this] { flusher_loop(); });
  keepalive_ = std::thread([this] { keepalive_loop(); });
}

// What is answered when the daemon does not answer, even when nobody has asked before.
void Mount::remember_root_and_space() {
  (void)metadata_->run(lease_request(root_, pb::LEASE_READ, false));
  pb::Request request;
  request.mutable_statfs()->set_ino(root_);
  if (const auto answer = metadata_->call(std::move(request)))
    space_.remember(root_, answer.value().reply.statfs());
}

PendingRequests::Options Mount::request_options() {
  return {.deadline = milliseconds(config_.mount.rpc_deadline_ms),
          .is_dying = is_dying,
          .daemon_silence = [this] { return client_->silence(); }};
}

void Mount::tell_kernel(const MetadataClient::Unwitnessed& news) {
  if (news.entries) kernel_.forget_entries();
  for (const InodeId ino : news.inodes) kernel_.forget_attributes(ino);
  if (!news.all) return;
  for (const auto& inode : table_.all()) kernel_.forget_attributes(inode->ino);
}

result<void> Mount::serve_metrics(const std::string& address) {
  TRY(exporter_, export_metrics(address, [this] {
        MountNumbers numbers;
        numbers.cloud = cloud_.name();
        numbers.mountpoint = mountpoint_;
        numbers.operations = operations_;
        numbers.dirty_bytes = io_->budget().used();
        numbers.dirty_bytes_max = config_.mount.dirty_bytes_max;
        numbers.cache_bytes = cache_->bytes();
        numbers.cache_bytes_max = config_.mount.cache_bytes_max;
        numbers.degraded_reads = stripe_reader_->degraded_reads();
        numbers.flush_failures = io_->failures();
        numbers.data_losses = io_->data_losses();
        return mount_metrics(numbers, *sites_);
      }));
  return success();
}

void Mount::read_flags() {
  const auto entry = data_cloud_at(mountpoint_);
  if (entry) metadata_->set_synchronous(dirsync_ || entry->has_option("sync"));
}

bool Mount::stop() {
  exporter_.reset();
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (flusher_.joinable()) flusher_.join();
  if (keepalive_.joinable()) keepalive_.join();
  if (!io_) return true;
  const auto deadline = monotonic_now() + kStopPatience;
  bool clean = false;
  while (!clean) {
    clean = true;
    for (const auto& inode : io_->dirty_inodes()) {
      std::unique_lock lock(inode->mutex);
      const bool unlinked = inode->attr_known && inode->attr.nlink() == 0;
      lock.unlock();
      if (unlinked)
        io_->discard(inode);
      else if (!io_->flush(inode, true))
        clean = false;
    }
    if (clean || monotonic_now() > deadline) break;
    std::this_thread::sleep_for(milliseconds(500));
  }
  if (clean) io_->store_all_records();
  if (!clean)
    spdlog::critical("unwritten data of {} files is lost: {}", io_->dirty_inodes().size(),
                     io_->last_failure());
  io_->wait_shared();
  pipeline_.reset();
  TrafficRows rows;
  if (const auto reply = client_->call(keepalive_request(rows)); reply) reported_ = std::move(rows);
  if (clean) {
    pb::Request goodbye;
    goodbye.mutable_goodbye();
    (void)client_->call(std::move(goodbye));
  }
  return clean;
}

Mount::~Mount() {
  exporter_.reset();
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (flusher_.joinable()) flusher_.join();
  if (keepalive_.joinable()) keepalive_.join();
  if (metadata_) metadata_->on_unwitnessed(nullptr);
  table_.on_overtaken(nullptr);
  if (io_) io_->wait_shared();
  recalls_put_off_.stop();
  recalls_.reset();
  kernel_calls_.clear();
  pipeline_.reset();
  io_.reset();
  reader_.reset();
  stripe_reader_.reset();
  client_.reset();  // before what its callbacks use
}

double Mount::cache_seconds(const Inode& inode) const {
  if (!metadata_->holds(inode, pb::LEASE_READ) || inode.recalling) return 0;
  const auto left = client_->lease_end() - monotonic_now();
  return std::max(0.0, std::chrono::duration<double>(left).count());
}

double Mount::entry_cache_seconds(const InodePtr& parent) const {
  if (!parent) return 0;
  if (!kernel_.can_expire_entries()) return kEntrySecondsWithoutEpochs;
  std::lock_guard lock(parent->mutex);
  return cache_seconds(*parent);
}

}  // namespace datacloud
