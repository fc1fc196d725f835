// What every back end shares: purposes, object names, payloads.
#include "common/store/object_store.h"

namespace datacloud {

const char* purpose_name(Purpose purpose) {
  static constexpr const char* names[kPurposeCount] = {"client", "audit",   "repair",
                                                       "fold",   "journal", "gc"};
  return names[static_cast<int>(purpose)];
}

bool valid_object_name(const std::string& name) {
  if (name.empty() || name.size() > 200 || name[0] == '.') return false;
  for (unsigned char c : name) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!letter && !(c >= '0' && c <= '9') && c != '.' && c != '_' && c != '-') return false;
  }
  return true;
}

Payload Payload::from(Bytes bytes) {
  auto owner = std::make_shared<const Bytes>(std::move(bytes));
  Payload payload;
  payload.parts.push_back(ByteView(*owner));
  payload.owner = std::move(owner);
  return payload;
}

}  // namespace datacloud
