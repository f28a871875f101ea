/*
 * Output of legacy_config_command from hostile bytes: what is taken is text that ends within its
 * field, numbers in their range, and a key that can sign.
 */
#include "codec/encode_signed.h"
#include "core/legacy_values.h"
#include "tests/fuzz/fuzz_input.h"

static void require_text(const char *field, size_t size)
{
    size_t length = strnlen(field, size);
    require(length < size);
    for (size_t i = 0; i < length; i++)
        require((unsigned char)field[i] >= ' ' && field[i] != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes text = {data, size};
    uint8_t *copy = exact_copy(text), *scratch = exact_copy(text);
    text.data = copy;
    struct legacy_values values;
    if (size <= LEGACY_OUTPUT_MAX && legacy_values_read(text, scratch, &values) == NULL) {
        require_text(values.broker_host, sizeof values.broker_host);
        require_text(values.username, sizeof values.username);
        require_text(values.password, sizeof values.password);
        require(values.broker_host[0] != '\0');
        require((values.username[0] == '\0') == (values.password[0] == '\0'));
        require(values.broker_port >= 1 && values.broker_port <= 65535);
        require(values.keepalive >= 5 && values.keepalive <= 65535);
        require(values.use_hmac == (values.hmac_secret_key[0] != '\0'));
        if (values.use_hmac)
            require(signer_key_fault(bytes_of(values.hmac_secret_key)) == NULL);
    }
    free(copy);
    free(scratch);
    return 0;
}
