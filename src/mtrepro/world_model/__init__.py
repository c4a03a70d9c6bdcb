"""What the Dreamer methods share: the agent, state-space models, latents, pictures, heads, imagination, behaviour.

Letters of the papers, wherever the mathematics stands:

    x  picture          e  its embedding       a  action             r  reward
    h  what was before  z  latent state        c  the task's code, if told       s = [h, z, c]  what every head sees
    V  return (lambda)  v  critic's value      gamma, lambda  discount, and how returns mix
    T  frames           B  sequences           N = T B  starts of imagination    H  imagined steps

v1: Hafner et al., "Dream to Control", ICLR 2020 (1912.01603), and danijar/dreamer; v2: Hafner et al., "Mastering Atari
with Discrete World Models", ICLR 2021 (2010.02193), and danijar/dreamerv2.
"""
