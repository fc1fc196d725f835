// See leader_record.h.
#include "common/site/leader_record.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <tuple>

#include "common/crypto/block_cipher.h"
#include "common/site/site_set.h"
#include "common/store/hidden_names.h"

namespace datacloud {
namespace {

constexpr std::string_view kRecordHead{"DCLR\1\0\0\0", 8};
constexpr size_t kRecordPrefix = 8 + BlockCipher::kNonceBytes;

BlockCipher record_cipher() {
  static const std::unique_ptr<EVP_CIPHER, decltype(&EVP_CIPHER_free)> aes(
      EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr), EVP_CIPHER_free);
  if (!aes) std::abort();
  return BlockCipher(aes.get());
}

// What the sites have answered so far; shared with calls that outlive the search.
struct Search {
  std::vector<SiteConfig> sites;
  std::string uuid;
  SecretKey key;
  Duration patience{};

  std::mutex mutex;
  std::condition_variable changed;
  size_t unanswered = 0;
  std::optional<pb::LeaderRecord> newest;
  std::string reasons;
};

result<pb::LeaderRecord> read_slot(ObjectStore& store, int slot, const Search& search) {
  OpOptions options;
  options.deadline = monotonic_now() + search.patience;
  options.purpose = Purpose::journal;
  TRY(const auto reply, wait_for<ReadReply>([&](auto done) {
        store.read(leader_record_name(slot), {{0, kLeaderRecordBytesMax}}, false, options, done);
      }));
  if (reply.ranges.empty()) return failure(Errc::corrupt, "the record of the leader is empty");
  return open_leader_record(search.key, reply.ranges[0]);
}

// The newest record of one site.
result<pb::LeaderRecord> read_site(const SiteConfig& site, const Search& search) {
  TRY(const auto marker, read_store_marker(site, search.uuid));
  if (marker.cloud_uuid != search.uuid)
    return failure(Errc::away, "it is a site of cloud " + marker.cloud_name);
  TRY(const auto bare, open_store(site, marker));
  auto first = read_slot(*bare, 0, search);
  auto second = read_slot(*bare, 1, search);
  if (first && second) return is_newer(second.value(), first.value()) ? second : first;
  return second ? second : first;
}

void ask_site(const std::shared_ptr<Search>& search, size_t index) {
  const SiteConfig& site = search->sites[index];
  const auto found = read_site(site, *search);
  std::lock_guard lock(search->mutex);
  --search->unanswered;
  if (!found)
    search->reasons += fmt::format("; {}: {}", site.name, found.error().text());
  else if (!search->newest || is_newer(found.value(), *search->newest))
    search->newest = found.value();
  search->changed.notify_all();
}

}  // namespace

std::string leader_record_name(int slot) { return fmt::format("{}{}", kLeaderPrefix, slot); }

SecretKey derive_leader_key(const SecretKey& service_key, const std::string& cloud_uuid) {
  return SecretKey(
      ByteView(hkdf_sha256(service_key.view(), "datacloud 1 leader record " + cloud_uuid, 32)));
}

Bytes seal_leader_record(const SecretKey& leader_key, const pb::LeaderRecord& record) {
  BlockCipher cipher = record_cipher();
  const std::string plain = record.SerializeAsString();
  Bytes out(kRecordPrefix + plain.size() + BlockCipher::kTagBytes);
  const uint8_t* nonce = cipher.next_nonce();
  if (nonce == nullptr) std::abort();
  std::copy(kRecordHead.begin(), kRecordHead.end(), out.begin());
  std::copy_n(nonce, BlockCipher::kNonceBytes, out.begin() + kRecordHead.size());
  std::copy(plain.begin(), plain.end(), out.begin() + kRecordPrefix);
  if (!cipher.seal(leader_key, out.data() + kRecordHead.size(), as_bytes(kRecordHead),
                   {out.data() + kRecordPrefix, plain.size()},
                   out.data() + kRecordPrefix + plain.size())) {
    std::abort();
  }
  return out;
}

result<pb::LeaderRecord> open_leader_record(const SecretKey& leader_key, ByteView sealed) {
  const auto corrupt = [] {
    return failure(Errc::corrupt, "the record of the leader is not of this cloud, or damaged");
  };
  if (sealed.size() < kRecordPrefix + BlockCipher::kTagBytes ||
      sealed.size() > kLeaderRecordBytesMax ||
      !std::equal(kRecordHead.begin(), kRecordHead.end(), sealed.begin(),
                  [](char a, uint8_t b) { return static_cast<uint8_t>(a) == b; })) {
    return corrupt();
  }
  Bytes plain = to_bytes(
      sealed.subspan(kRecordPrefix, sealed.size() - kRecordPrefix - BlockCipher::kTagBytes));
  BlockCipher cipher = record_cipher();
  pb::LeaderRecord record;
  if (!cipher.open(leader_key, sealed.data() + kRecordHead.size(), as_bytes(kRecordHead), plain,
                   sealed.data() + sealed.size() - BlockCipher::kTagBytes) ||
      !record.ParseFromArray(plain.data(), static_cast<int>(plain.size()))) {
    return corrupt();
  }
  return record;
}

bool is_newer(const pb::LeaderRecord& record, const pb::LeaderRecord& than) {
  const auto order = [](const pb::LeaderRecord& r) {
    return std::tuple(r.epoch(), r.nonce(), r.revision());
  };
  return order(record) > order(than);
}

result<pb::LeaderRecord> read_leader_record(const std::vector<SiteConfig>& sites,
                                            const std::string& cloud_uuid,
                                            const SecretKey& leader_key, Duration patience,
                                            Duration grace) {
  const auto search = std::make_shared<Search>();
  search->sites = sites;
  for (auto& site : search->sites) site.service_key.clear();  // the daemon's
  search->uuid = cloud_uuid;
  search->key = leader_key;
  search->patience = patience;
  search->unanswered = sites.size();
  for (size_t i = 0; i < sites.size(); ++i) std::thread(ask_site, search, i).detach();
  const auto until = monotonic_now() + patience;
  std::unique_lock lock(search->mutex);
  search->changed.wait_until(lock, until,
                             [&] { return search->newest || search->unanswered == 0; });
  search->changed.wait_until(lock, std::min(until, monotonic_now() + grace),
                             [&] { return search->unanswered == 0; });
  if (search->newest) return *search->newest;
  return failure(Errc::unavailable,
                 fmt::format("the sites do not tell who leads the cloud{}",
                             search->reasons.empty() ? ": none has answered" : search->reasons));
}

}  // namespace datacloud
