// make_reserving_files (state_space.h).
//
// Invariant: whatever fails with ENOSPC has been tried once more after every piece of the reserve,
// and an append that got part of its bytes out goes on behind them.
#include <cerrno>
#include <utility>

#include "daemon/metadata/state_space.h"

namespace datacloud {
namespace {

bool is_full(const Error& error) { return error.errno_value() == ENOSPC; }

template <class Call>
auto with_reserve(StateSpace& space, Call call) {
  auto outcome = call();
  while (!outcome && is_full(outcome.error()) && space.give()) outcome = call();
  return outcome;
}

class ReservingFile final : public File {
 public:
  ReservingFile(std::unique_ptr<File> below, std::shared_ptr<StateSpace> space)
      : below_(std::move(below)), space_(std::move(space)) {}

  result<void> append(ByteView data) override {
    for (;;) {
      TRY(const uint64_t before, below_->size());
      auto written = below_->append(data);
      if (written || !is_full(written.error())) return written;
      TRY(const uint64_t after, below_->size());
      if (!space_->give()) return written;
      data = data.subspan(std::min<uint64_t>(after - before, data.size()));
    }
  }
  result<size_t> pread(uint64_t offset, MutableByteView out) override {
    return below_->pread(offset, out);
  }
  result<void> sync() override { return below_->sync(); }
  result<uint64_t> size() override { return below_->size(); }

 private:
  const std::unique_ptr<File> below_;
  const std::shared_ptr<StateSpace> space_;
};

class ReservingFiles final : public FileLayer {
 public:
  ReservingFiles(std::shared_ptr<FileLayer> below, std::shared_ptr<StateSpace> space)
      : below_(std::move(below)), space_(std::move(space)) {}

  result<std::unique_ptr<File>> open(const std::string& path, Open how) override {
    auto file = with_reserve(*space_, [&] { return below_->open(path, how); });
    if (!file || how == Open::read) return file;
    return std::unique_ptr<File>(new ReservingFile(std::move(file).value(), space_));
  }
  result<Stat> stat(const std::string& path) override { return below_->stat(path); }
  result<void> make_directory(const std::string& path) override {
    return with_reserve(*space_, [&] { return below_->make_directory(path); });
  }
  result<void> remove_directory(const std::string& path) override {
    return below_->remove_directory(path);
  }
  result<void> unlink(const std::string& path) override { return below_->unlink(path); }
  result<void> rename(const std::string& from, const std::string& to) override {
    return with_reserve(*space_, [&] { return below_->rename(from, to); });
  }
  result<void> link(const std::string& from, const std::string& to) override {
    return with_reserve(*space_, [&] { return below_->link(from, to); });
  }
  // A failed sync is final: what it was to make durable may be gone (leveldb_env.h).
  result<void> sync_directory(const std::string& path) override {
    return below_->sync_directory(path);
  }
  result<std::vector<std::string>> list(const std::string& path) override {
    return below_->list(path);
  }
  result<void> lock(const std::string& path, std::unique_ptr<File>& held) override {
    return with_reserve(*space_, [&] { return below_->lock(path, held); });
  }
  result<Space> space(const std::string& path) override { return below_->space(path); }

 private:
  const std::shared_ptr<FileLayer> below_;
  const std::shared_ptr<StateSpace> space_;
};

}  // namespace

std::shared_ptr<FileLayer> make_reserving_files(std::shared_ptr<FileLayer> below,
                                                std::shared_ptr<StateSpace> space) {
  return std::make_shared<ReservingFiles>(std::move(below), std::move(space));
}

}  // namespace datacloud
