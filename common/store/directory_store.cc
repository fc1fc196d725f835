// The directory back end: one blocking operation per function, run by two small pools so that reads
// do not wait behind the fsyncs of puts.
//
// Invariants: an object's name appears only after its contents are durable, and a put is answered
// only after the name is; nothing is created outside a site whose marker was verified by the same
// call; every accepted call is answered exactly once.
#include "common/store/directory_store.h"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>

#include "common/base/executor.h"
#include "common/base/out_of_space.h"
#include "common/store/directory_layout.h"
#include "common/store/hidden_names.h"
#include "common/store/object_compute.h"
#include "common/store/object_file.h"

namespace datacloud {
namespace {

constexpr size_t kCallsMax = 65536;  // accepted and unanswered; callers bound themselves far lower
constexpr size_t kListNamesMax = 65536;  // per reply
constexpr auto kTemporaryAge = std::chrono::hours(1);

bool is(const Error& error, std::errc code) { return error.code() == code; }

// A failure of the file layer in the words of the object store seam.
Error store_error(const Error& error) {
  if (error.code().category() == error_category()) return error;
  if (is(error, std::errc::no_space_on_device)) return Error(Errc::no_space, error.message());
  if (error.code() == std::error_code(EDQUOT, std::generic_category())) {
    return quota_error(error.message());
  }
  if (is(error, std::errc::file_exists)) return Error(Errc::exists, error.text());
  if (is(error, std::errc::no_such_file_or_directory)) return Error(Errc::not_found, error.text());
  return Error(Errc::io, error.message());
}

bool is_temporary(const std::string& name) {
  return name.compare(0, kTemporaryPrefix.size(), kTemporaryPrefix) == 0;
}

class DirectoryStore final : public ObjectStore, public ReadsInto {
 public:
  explicit DirectoryStore(DirectoryStoreOptions options)
      : files_(options.files ? options.files : make_posix_file_layer()),
        layout_(std::move(options.root)),
        guard_(*files_, layout_, std::move(options.expected)),
        writers_(options.threads, kCallsMax),
        readers_(options.threads, kCallsMax) {
    uint64_t random = 0;
    if (::getrandom(&random, sizeof random, 0) != sizeof random) {
      random = static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
    }
    temporary_stem_ = std::string(kTemporaryPrefix) + std::to_string(::getpid()) + "-" +
                      std::to_string(random) + "-";
  }

  void put(const std::string& name, Payload data, Attributes attributes, OpOptions options,
           Callback<void> callback) override {
    run<void>(writers_, "put", name, options, std::move(callback),
              [this, name, data = std::move(data), attributes = std::move(attributes)] {
                return do_put(name, data, attributes);
              });
  }

  void read(const std::string& name, std::vector<ByteRange> ranges, bool want_attributes,
            OpOptions options, Callback<ReadReply> callback) override {
    run<ReadReply>(readers_, "read", name, options, std::move(callback),
                   [this, name, ranges = std::move(ranges), want_attributes] {
                     return do_read(name, ranges, want_attributes);
                   });
  }

  void read_into(const std::string& name, std::vector<ByteRange> ranges,
                 std::vector<MutableByteView> spaces, std::shared_ptr<const void> owner,
                 bool want_attributes, OpOptions options,
                 Callback<ReadIntoReply> callback) override {
    run<ReadIntoReply>(readers_, "read", name, options, std::move(callback),
                       [this, name, ranges = std::move(ranges), spaces = std::move(spaces),
                        owner = std::move(owner), want_attributes]() -> result<ReadIntoReply> {
                         TRY(const auto file, open_object(name));
                         return read_object_file_into(*file, ranges, spaces, want_attributes);
                       });
  }

  void derive(const std::string& name, Derivation derivation, OpOptions options,
              Callback<DeriveReply> callback) override {
    run<DeriveReply>(
        writers_, "derive", name, options, std::move(callback),
        [this, name, derivation = std::move(derivation)] { return do_derive(name, derivation); });
  }

  void combine(const std::string& name, Combination combination, OpOptions options,
               Callback<CombineReply> callback) override {
    run<CombineReply>(readers_, "combine", name, options, std::move(callback),
                      [this, name, combination = std::move(combination)] {
                        return do_combine(name, combination);
                      });
  }

  void prove(const std::string& name, AuditChallenge challenge, OpOptions options,
             Callback<AuditProof> callback) override {
    run<AuditProof>(readers_, "prove", name, options, std::move(callback),
                    [this, name, challenge] { return do_prove(name, challenge); });
  }

  void remove(const std::string& name, OpOptions options, Callback<void> callback) override {
    run<void>(writers_, "remove", name, options, std::move(callback),
              [this, name] { return do_remove(name); });
  }

  void list(const std::string& from, size_t count_max, OpOptions options,
            Callback<ListReply> callback) override {
    run<ListReply>(writers_, "list", "", options, std::move(callback),
                   [this, from, count_max] { return do_list(from, count_max); });
  }

  void check(OpOptions options, Callback<void> callback) override {
    run<void>(readers_, "check", "", options, std::move(callback), [this] { return verify(); });
  }

  void capacity(OpOptions options, Callback<Capacity> callback) override {
    run<Capacity>(readers_, "capacity", "", options, std::move(callback),
                  [this] { return do_capacity(); });
  }

  std::string location(const std::string& name) const override { return layout_.object(name); }

 private:
  // Queues `work` and answers with its result; `name` is checked unless the call has none.
  template <class T, class Work>
  void run(Executor& pool, const char* op, const std::string& name, const OpOptions& options,
           Callback<T> callback, Work work) {
    if (!storable_object_name(name) && !name.empty()) {
      return callback(failure(Errc::invalid, "not an object name: " + name.substr(0, 200)));
    }
    if (calls_.fetch_add(1) >= kCallsMax) {
      calls_.fetch_sub(1);
      return callback(failure(Errc::unavailable, layout_.root() + ": too many calls in flight"));
    }
    pool.post([this, op, name, deadline = options.deadline, callback = std::move(callback),
               work = std::move(work)] {
      result<T> answer = monotonic_now() > deadline
                             ? result<T>(failure(Errc::timed_out, "still queued at its deadline"))
                             : work();
      calls_.fetch_sub(1);
      if (answer) return callback(std::move(answer));
      const Error error = store_error(answer.error());
      if (error.is(Errc::away)) return callback(failure(error));
      callback(failure(error.in(std::string(op) + " " +
                                (name.empty() ? layout_.root() : layout_.object(name)))));
    });
  }

  result<void> verify() { return guard_.verify(); }

  // A path was not there: was it the object or the whole site?
  Error absent(const Error& error) {
    auto present = verify();
    return present ? error : present.error();
  }

  result<void> do_put(const std::string& name, const Payload& data, const Attributes& attributes) {
    if (name.empty()) return failure(Errc::invalid, "an object needs a name");
    if (data.size() > kObjectBytesMax) return failure(Errc::invalid, "larger than 64 MiB");
    TRY(verify());
    TRY(auto trailer, encode_object_trailer(data.size(), attributes));
    const std::string directory = layout_.fan_out(DirectoryLayout::fan_out_of(name));
    const std::string temporary =
        directory + "/" + temporary_stem_ + std::to_string(next_temporary_.fetch_add(1));
    auto written = write_temporary(temporary, data, trailer);
    if (!written) return failure(not_created(written.error()));
    const std::string path = directory + "/" + name;
    auto linked = files_->link(temporary, path);
    (void)files_->unlink(temporary);
    if (!linked) return failure(not_created(linked.error()));
    auto synced = files_->sync_directory(directory);
    if (!synced) {
      (void)files_->unlink(path);
      return failure(not_created(synced.error()));
    }
    return verify();  // replaced by another site meanwhile: nobody may build on it
  }

  // Parts of the site itself being gone is damage (or the site is away), never "not found".
  Error not_created(const Error& error) {
    if (!is(error, std::errc::no_such_file_or_directory)) return error;
    return absent(Error(Errc::io, error.message()));
  }

  result<void> write_temporary(const std::string& path, const Payload& data, const Bytes& trailer) {
    auto file = files_->open(path, FileLayer::Open::create_exclusive);
    if (!file) {  // a temporary in the way says nothing about the object
      if (!is(file.error(), std::errc::file_exists)) return failure(file.error());
      return failure(Errc::io, file.error().message());
    }
    auto parts = data.parts;
    parts.push_back(trailer);
    auto written = file.value()->append_parts(parts);
    if (written) written = file.value()->sync();
    if (!written) (void)files_->unlink(path);
    return written;
  }

  result<std::unique_ptr<File>> open_object(const std::string& name) {
    if (!storable_object_name(name)) return failure(Errc::invalid, "an object needs a name");
    TRY(verify());
    auto file = files_->open(layout_.object(name), FileLayer::Open::read);
    if (file || !is(file.error(), std::errc::no_such_file_or_directory)) return file;
    return failure(absent(file.error()));
  }

  result<ReadReply> do_read(const std::string& name, const std::vector<ByteRange>& ranges,
                            bool want_attributes) {
    TRY(auto file, open_object(name));
    return read_object_file(*file, ranges, want_attributes);
  }

  // Read, patched and put: the site is a file system and computes nothing.
  result<DeriveReply> do_derive(const std::string& name, const Derivation& derivation) {
    if (name.empty()) return failure(Errc::invalid, "an object needs a name");
    TRY(verify());
    if (files_->stat(layout_.object(name))) return failure(Errc::exists, "it is there already");
    auto source = do_read(derivation.source, {{0, kObjectBytesMax}}, true);
    if (!source) {
      return failure(source.error().in("source " + layout_.object(derivation.source)));
    }
    TRY(auto made, derive_object(source.value().ranges[0], source.value().attributes, derivation));
    Payload payload;
    payload.parts.push_back(made.data);
    TRY(do_put(name, payload, made.attributes));
    return DeriveReply{made.bytes_transferred};
  }

  result<CombineReply> do_combine(const std::string& name, const Combination& combination) {
    TRY(check_combination(combination));
    TRY(auto reply, do_read(name, combination.ranges, false));
    return combine_ranges(std::move(reply.ranges), combination);
  }

  result<AuditProof> do_prove(const std::string& name, const AuditChallenge& challenge) {
    TRY(auto file, open_object(name));
    TRY(auto about, read_object_file(*file, {}, true));
    TRY(auto plan, plan_proof(challenge, about.object_size, about.attributes));
    TRY(auto reply, read_object_file(*file, plan.ranges, false));
    return plan.prove(reply.ranges);
  }

  result<void> do_remove(const std::string& name) {
    if (name.empty()) return failure(Errc::invalid, "an object needs a name");
    TRY(verify());
    const std::string directory = layout_.fan_out(DirectoryLayout::fan_out_of(name));
    auto removed = files_->unlink(directory + "/" + name);
    if (!removed) {
      if (!is(removed.error(), std::errc::no_such_file_or_directory)) return removed;
      return failure(absent(removed.error()));
    }
    auto synced = files_->sync_directory(directory);
    if (!synced) return failure(not_created(synced.error()));
    return success();
  }

  // `from` and `next` are "xx/NAME": the fan-out directory and the last name given.
  result<ListReply> do_list(const std::string& from, size_t count_max) {
    TRY(verify());
    if (count_max == 0) return failure(Errc::invalid, "a listing of no names");
    count_max = std::min(count_max, kListNamesMax);
    int directory = 0;
    std::string after;
    if (!from.empty()) {
      if (from.size() < 3 || from[2] != '/' || from.find_first_not_of("0123456789abcdef") != 2) {
        return failure(Errc::invalid, "not a continuation of a listing");
      }
      directory = std::stoi(from.substr(0, 2), nullptr, 16);
      after = from.substr(3);
    }
    ListReply reply;
    for (; directory < kFanOut; ++directory, after.clear()) {
      const size_t room = count_max - reply.names.size();
      TRY(auto names, names_in(directory, after));
      const bool more = names.size() > room;
      if (more) names.resize(room);
      const bool full = more || (names.size() == room && directory + 1 < kFanOut);
      const std::string last = names.empty() ? after : names.back();
      std::move(names.begin(), names.end(), std::back_inserter(reply.names));
      if (!full) continue;
      reply.next = layout_.fan_out(directory).substr(layout_.objects().size() + 1) + "/" + last;
      break;
    }
    return reply;
  }

  // Objects of one fan-out directory after `after`, in order; forgotten temporaries are removed.
  result<std::vector<std::string>> names_in(int directory, const std::string& after) {
    auto listed = files_->list(layout_.fan_out(directory));
    if (!listed) return failure(not_created(listed.error()));
    auto& names = listed.value();
    for (const auto& name : names) {
      if (is_temporary(name)) remove_if_old(layout_.fan_out(directory) + "/" + name);
    }
    const auto unwanted = [&](const std::string& name) {
      return name <= after || !valid_object_name(name) ||
             DirectoryLayout::fan_out_of(name) != directory;
    };
    names.erase(std::remove_if(names.begin(), names.end(), unwanted), names.end());
    std::sort(names.begin(), names.end());
    return std::move(names);
  }

  void remove_if_old(const std::string& path) {
    auto stat = files_->stat(path);
    const auto now = std::chrono::system_clock::now() - kTemporaryAge;
    const auto limit_ns =
        std::chrono::duration_cast<std::chrono::nanoseconds>(now.time_since_epoch()).count();
    if (stat && stat.value().mtime_ns < limit_ns) (void)files_->unlink(path);
  }

  result<Capacity> do_capacity() {
    TRY(verify());
    TRY(auto space, files_->space(layout_.root()));
    return Capacity{space.bytes_total, space.bytes_free};
  }

  const std::shared_ptr<FileLayer> files_;
  const DirectoryLayout layout_;
  MarkerGuard guard_;
  std::string temporary_stem_;
  std::atomic<uint64_t> next_temporary_{0};
  std::atomic<size_t> calls_{0};
  Executor writers_, readers_;  // last: joined first, their tasks use the above
};

}  // namespace

std::unique_ptr<ObjectStore> make_directory_store(DirectoryStoreOptions options) {
  return std::make_unique<DirectoryStore>(std::move(options));
}

}  // namespace datacloud
