// The simulated disk's page cache: paths, names, contents. Losing them is in
// simulated_power_cut.cc.
#include "tests/support/simulated_files.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "tests/support/simulated_node.h"

namespace datacloud {
namespace {

using Call = SimulatedFiles::Call;

auto fail(int error, const char* call, const std::string& path) {
  return failure(Error::posix(error, std::string(call) + " " + path));
}

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

class SimulatedFile final : public File {
 public:
  SimulatedFile(SimulatedFiles& disk, std::shared_ptr<SimulatedFiles::Node> node, std::string path,
                bool lock, bool write_through = false)
      : disk_(disk),
        node_(std::move(node)),
        path_(std::move(path)),
        generation_(disk.generation_),
        lock_(lock),
        write_through_(write_through) {}

  ~SimulatedFile() override {
    std::lock_guard lock(disk_.mutex_);
    if (lock_ && generation_ == disk_.generation_) disk_.locked_.erase(node_.get());
  }

  result<void> append(ByteView data) override {
    std::lock_guard lock(disk_.mutex_);
    TRY(enter(Call::append));
    node_->contents.insert(node_->contents.end(), data.begin(), data.end());
    node_->modified_ns = now_ns();
    node_->unsynced = true;
    return disk_.leave_change(path_);
  }

  result<size_t> pread(uint64_t offset, MutableByteView out) override {
    std::lock_guard lock(disk_.mutex_);
    TRY(enter(Call::pread));
    const uint64_t size = node_->contents.size();
    const size_t n = std::min<uint64_t>(out.size(), size - std::min(offset, size));
    if (n != 0) std::memcpy(out.data(), node_->contents.data() + offset, n);
    return n;
  }

  result<void> sync() override {
    std::lock_guard lock(disk_.mutex_);
    TRY(enter(Call::sync));
    TRY(disk_.leave_change(path_));
    if (!disk_.counts_as_sync("file " + path_)) return success();
    node_->durable = node_->contents;
    node_->unsynced = node_->truncated = false;
    return success();
  }

  result<void> write_at(uint64_t offset, ByteView data) override {
    std::lock_guard lock(disk_.mutex_);
    TRY(enter(Call::write_at));
    Bytes& contents = node_->contents;
    contents.resize(std::max<uint64_t>(contents.size(), offset + data.size()));
    std::copy(data.begin(), data.end(), contents.begin() + static_cast<std::ptrdiff_t>(offset));
    node_->modified_ns = now_ns();
    const bool others = node_->unsynced;
    node_->unsynced = true;
    TRY(disk_.leave_change(path_));
    if (!write_through_ || !disk_.counts_as_sync("write " + path_)) return success();
    Bytes& durable = node_->durable;  // this range, and nothing else that was written
    durable.resize(std::max<uint64_t>(durable.size(), offset + data.size()));
    std::copy(data.begin(), data.end(), durable.begin() + static_cast<std::ptrdiff_t>(offset));
    node_->unsynced = others;
    return success();
  }

  result<uint64_t> size() override {
    std::lock_guard lock(disk_.mutex_);
    TRY(enter(Call::size));
    return node_->contents.size();
  }

 private:
  result<void> enter(Call call) {
    if (generation_ != disk_.generation_) return fail(EIO, "handle from before a power cut", path_);
    return disk_.enter(call, path_);
  }

  SimulatedFiles& disk_;
  const std::shared_ptr<SimulatedFiles::Node> node_;
  const std::string path_;
  const uint64_t generation_;
  const bool lock_;
  const bool write_through_;
};

SimulatedFiles::SimulatedFiles() : root_(make_node(true)) {}
SimulatedFiles::~SimulatedFiles() = default;

uint64_t SimulatedFiles::change_count() const {
  std::lock_guard lock(mutex_);
  return changes_;
}

uint64_t SimulatedFiles::sync_count() const {
  std::lock_guard lock(mutex_);
  return syncs_.size();
}

std::vector<std::string> SimulatedFiles::sync_log() const {
  std::lock_guard lock(mutex_);
  return syncs_;
}

void SimulatedFiles::fail_power_at(uint64_t change) {
  std::lock_guard lock(mutex_);
  fail_at_ = change;
}

void SimulatedFiles::ignore_sync(std::optional<uint64_t> sync) {
  std::lock_guard lock(mutex_);
  ignored_sync_ = sync;
}

void SimulatedFiles::set_failure_rule(FailureRule rule) {
  std::lock_guard lock(mutex_);
  rule_ = std::move(rule);
}

bool SimulatedFiles::overwrite(const std::string& path, Bytes contents) {
  std::lock_guard lock(mutex_);
  auto node = find(path);
  if (!node || node.value()->directory) return false;
  node.value()->contents = node.value()->durable = std::move(contents);
  node.value()->modified_ns = now_ns();
  return true;
}

result<void> SimulatedFiles::enter(Call call, const std::string& path) {
  if (power_off_) return fail(EIO, "power is off", path);
  const int error = rule_ ? rule_(call, path) : 0;
  if (error != 0) return fail(error, "injected", path);
  // A sync that meets the power failure has no effect; every other change may have happened.
  const bool sync = call == Call::sync || call == Call::sync_directory;
  if (sync && fail_at_ && changes_ >= *fail_at_) {
    power_off_ = true;
    return fail(EIO, "power failed", path);
  }
  return success();
}

result<void> SimulatedFiles::leave_change(const std::string& path) {
  const bool fails = fail_at_ && changes_ >= *fail_at_;
  ++changes_;
  if (!fails) return success();
  power_off_ = true;
  return fail(EIO, "power failed", path);
}

bool SimulatedFiles::counts_as_sync(const std::string& what) {
  syncs_.push_back(what);
  return !ignored_sync_ || *ignored_sync_ != syncs_.size() - 1;
}

SimulatedFiles::NodePtr SimulatedFiles::make_node(bool directory) {
  auto node = std::make_shared<Node>();
  node->directory = directory;
  node->inode = next_inode_++;
  node->modified_ns = now_ns();
  return node;
}

result<SimulatedFiles::Place> SimulatedFiles::place_of(const std::string& path) const {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos || slash + 1 == path.size()) return fail(EINVAL, "path", path);
  TRY(auto directory, find(path.substr(0, slash)));
  if (!directory->directory) return fail(ENOTDIR, "path", path);
  return Place{directory, path.substr(slash + 1)};
}

result<SimulatedFiles::NodePtr> SimulatedFiles::find(const std::string& path) const {
  NodePtr node = root_;
  size_t start = 0;
  while (start < path.size()) {
    const size_t end = std::min(path.find('/', start), path.size());
    if (end > start) {
      if (!node->directory) return fail(ENOTDIR, "path", path);
      auto it = node->entries.find(path.substr(start, end - start));
      if (it == node->entries.end()) return fail(ENOENT, "path", path);
      node = it->second;
    }
    start = end + 1;
  }
  return node;
}

uint64_t SimulatedFiles::change_name(const NodePtr& directory, const std::string& name,
                                     NodePtr target, uint64_t after) {
  if (target) {
    directory->entries[name] = target;
  } else {
    directory->entries.erase(name);
  }
  directory->modified_ns = now_ns();
  pending_.push_back({next_change_, directory, name, std::move(target), after});
  return next_change_++;
}

result<std::unique_ptr<File>> SimulatedFiles::open(const std::string& path, Open how) {
  std::lock_guard lock(mutex_);
  TRY(enter(Call::open, path));
  auto found = find(path);
  NodePtr node;
  if (found) {
    node = found.value();
    if (how == Open::create_exclusive) return fail(EEXIST, "open", path);
    if (node->directory && how != Open::read && how != Open::read_through)
      return fail(EISDIR, "open", path);
    if (how == Open::truncate) {
      node->contents.clear();
      node->truncated = node->unsynced = true;
      TRY(leave_change(path));
    }
  } else {
    if (how == Open::read || how == Open::read_through || how == Open::write_through) {
      return failure(found.error());
    }
    TRY(auto place, place_of(path));
    node = make_node(false);
    change_name(place.directory, place.name, node);
    TRY(leave_change(path));
  }
  return std::unique_ptr<File>(
      new SimulatedFile(*this, node, path, false, how == Open::write_through));
}

result<FileLayer::Stat> SimulatedFiles::stat(const std::string& path) {
  std::lock_guard lock(mutex_);
  TRY(enter(Call::stat, path));
  TRY(auto node, find(path));
  Stat stat;
  stat.is_directory = node->directory;
  stat.size = node->contents.size();
  stat.device = 1;
  stat.inode = node->inode;
  stat.mtime_ns = node->modified_ns;
  return stat;
}

result<void> SimulatedFiles::make_directory(const std::string& path) {
  std::lock_guard lock(mutex_);
  TRY(enter(Call::make_directory, path));
  if (find(path)) return fail(EEXIST, "mkdir", path);
  TRY(auto place, place_of(path));
  change_name(place.directory, place.name, make_node(true));
  return leave_change(path);
}

result<void> SimulatedFiles::remove_directory(const std::string& path) {
  std::lock_guard lock(mutex_);
  TRY(enter(Call::remove_directory, path));
  TRY(auto node, find(path));
  if (!node->directory) return fail(ENOTDIR, "rmdir", path);
  if (!node->entries.empty()) return fail(ENOTEMPTY, "rmdir", path);
  TRY(auto place, place_of(path));
  change_name(place.directory, place.name, nullptr);
  return leave_change(path);
}

result<void> SimulatedFiles::unlink(const std::string& path) {
  std::lock_guard lock(mutex_);
  TRY(enter(Call::unlink, path));
  TRY(auto node, find(path));
  if (node->directory) return fail(EISDIR, "unlink", path);
  TRY(auto place, place_of(path));
  change_name(place.directory, place.name, nullptr);
  return leave_change(path);
}

result<void> SimulatedFiles::rename(const std::string& from, const std::string& to) {
  std::lock_guard lock(mutex_);
  TRY(enter(Call::rename, from));
  TRY(auto node, find(from));
  TRY(auto source, place_of(from));
  TRY(auto target, place_of(to));
  const auto replaced = find(to);
  if (replaced && replaced.value() == node) return success();
  if (replaced && replaced.value()->directory != node->directory) {
    return fail(node->directory ? ENOTDIR : EISDIR, "rename", to);
  }
  if (replaced && !replaced.value()->entries.empty()) return fail(ENOTEMPTY, "rename", to);
  const uint64_t id = change_name(target.directory, target.name, node);
  change_name(source.directory, source.name, nullptr, id);
  return leave_change(from);
}

result<void> SimulatedFiles::link(const std::string& from, const std::string& to) {
  std::lock_guard lock(mutex_);
  TRY(enter(Call::link, to));
  TRY(auto node, find(from));
  if (node->directory) return fail(EPERM, "link", from);
  if (find(to)) return fail(EEXIST, "link", to);
  TRY(auto place, place_of(to));
  change_name(place.directory, place.name, node);
  return leave_change(to);
}

result<void> SimulatedFiles::sync_directory(const std::string& path) {
  std::lock_guard lock(mutex_);
  TRY(enter(Call::sync_directory, path));
  TRY(auto node, find(path));
  if (!node->directory) return fail(ENOTDIR, "fsync", path);
  TRY(leave_change(path));
  if (counts_as_sync("directory " + path)) flush_names(node);
  return success();
}

result<std::vector<std::string>> SimulatedFiles::list(const std::string& path) {
  std::lock_guard lock(mutex_);
  TRY(enter(Call::list, path));
  TRY(auto node, find(path));
  if (!node->directory) return fail(ENOTDIR, "list", path);
  std::vector<std::string> names;
  for (const auto& entry : node->entries) names.push_back(entry.first);
  return names;
}

result<void> SimulatedFiles::lock(const std::string& path, std::unique_ptr<File>& held) {
  std::lock_guard lock(mutex_);
  TRY(enter(Call::lock, path));
  auto found = find(path);
  NodePtr node;
  if (found) {
    node = found.value();
  } else {
    TRY(auto place, place_of(path));
    node = make_node(false);
    change_name(place.directory, place.name, node);
  }
  if (!locked_.insert(node.get()).second) return fail(EWOULDBLOCK, "lock", path);
  held = std::make_unique<SimulatedFile>(*this, node, path, true);
  return success();
}

result<FileLayer::Space> SimulatedFiles::space(const std::string& path) {
  std::lock_guard lock(mutex_);
  TRY(enter(Call::space, path));
  return Space{uint64_t{1} << 40, uint64_t{1} << 40};
}

}  // namespace datacloud
