//! CRC-64 with the coefficients of David Jones, as Redis uses it: reflected, from 0, nothing added at the end.

/// The polynomial 0xad93d23594c935a9, reflected.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;

static TABLE: [u64; 256] = table();

const fn table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 0 {
                crc >> 1
            } else {
                (crc >> 1) ^ POLYNOMIAL
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// The checksum of these bytes.
pub(super) fn crc64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |crc, byte| {
        TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_and_the_plain_definition() {
        // The check value of the variant.
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(crc64(b""), 0);
        let naive = |bytes: &[u8]| {
            let bits = bytes
                .iter()
                .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1));
            bits.fold(0_u64, |crc, bit| {
                let out = crc & 1 ^ u64::from(bit);
                (crc >> 1) ^ (out * POLYNOMIAL)
            })
        };
        let bytes: Vec<u8> = (0..1000_u32).map(|i| ((i * i) >> 3) as u8).collect();
        for len in 0..bytes.len() {
            assert_eq!(crc64(&bytes[..len]), naive(&bytes[..len]));
        }
    }
}
