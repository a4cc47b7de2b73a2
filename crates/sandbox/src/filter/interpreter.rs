//! For tests: what the kernel would make of a call under a program.

/// The answer of a program in the encoding that [`crate::plan::SeccompFilter`] carries.
pub(crate) fn run(program: &[u8], audit: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(audit.to_le_bytes());
    data.extend(0u64.to_le_bytes());
    for argument in arguments {
        data.extend(argument.to_le_bytes());
    }
    let (mut accumulator, mut next) = (0u32, 0usize);
    loop {
        let instruction = &program[next * 8..next * 8 + 8];
        let value = u32::from_ne_bytes(instruction[4..].try_into().unwrap());
        next += 1;
        let holds = match u16::from_ne_bytes([instruction[0], instruction[1]]) {
            0x20 => {
                let at = usize::try_from(value).unwrap();
                accumulator = u32::from_le_bytes(data[at..at + 4].try_into().unwrap());
                continue;
            }
            0x54 => {
                accumulator &= value;
                continue;
            }
            0x05 => {
                next += usize::try_from(value).unwrap();
                continue;
            }
            0x06 => return value,
            0x15 => accumulator == value,
            0x25 => accumulator > value,
            0x35 => accumulator >= value,
            other => panic!("instruction {other:#x}"),
        };
        next += usize::from(instruction[if holds { 2 } else { 3 }]);
    }
}
